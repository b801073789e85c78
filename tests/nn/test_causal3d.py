"""What must hold for causal convolutions over clips, whole and chunk by chunk."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.nn.causal import CausalStack, Past, fold, in_chunks
from vqkit.nn.causal3d import (
    CausalConv3d,
    CausalResidual3d,
    CausalUpsample3d,
    Size,
    channels_last,
)

CONVS: list[tuple[Size, Size]] = [
    ((1, 1, 1), (1, 1, 1)),
    ((3, 3, 3), (1, 1, 1)),
    ((3, 4, 4), (1, 2, 2)),
    ((4, 4, 4), (2, 2, 2)),
    ((4, 3, 3), (4, 1, 1)),
    ((7, 5, 6), (3, 2, 3)),
]


def stack() -> CausalStack:
    """Everything there is: one code for 1 + 4 k frames of 4 x 4 pixels, and back."""
    return CausalStack(
        CausalConv3d(3, 6, (3, 4, 4), stride=(1, 2, 2)),
        CausalResidual3d(6, 3),
        nn.ELU(),
        CausalConv3d(6, 8, (4, 4, 4), stride=(2, 2, 2)),
        CausalConv3d(8, 8, (2, 3, 3), stride=(2, 1, 1)),
        CausalUpsample3d(8, 6, (2, 2, 2), kernel_size=(2, 3, 3)),
        CausalResidual3d(6, 3, activation="elu"),
        CausalUpsample3d(6, 3, (2, 2, 2), kernel_size=(2, 3, 3)),
    )


def clips(num_frames: int, side: int = 12, channels: int = 3) -> Tensor:
    return channels_last(torch.randn(2, channels, num_frames, side, side, dtype=torch.float64))


@pytest.mark.parametrize(("kernel", "stride"), CONVS, ids=str)
def test_a_convolution_equals_torchs_on_a_clip_that_stood_still_before(kernel: Size, stride: Size):
    layer = CausalConv3d(3, 5, kernel, stride=stride).double()
    nn.init.normal_(layer.bias)
    x = clips(1 + 2 * stride[0])
    spare = [size - step for size, step in zip(kernel, stride, strict=True)]
    sides = [(more // 2, more - more // 2) for more in spare[1:]]
    still = x[:, :, :1].expand(-1, -1, kernel[0] - 1, -1, -1)
    padded = F.pad(torch.cat([still, x], 2), (*sides[1], *sides[0]))
    expected = F.conv3d(padded, layer.weight, layer.bias, stride=stride)
    assert expected.shape[2] == 3
    assert_close(layer(x), expected, rtol=0, atol=1e-12)


def test_filters_are_directions_with_lengths_of_their_own():
    layer = CausalConv3d(3, 5, (3, 3, 3))
    assert_close(layer.weight.flatten(1).norm(dim=1), layer.length.flatten())
    layer.direction.data *= 7
    assert_close(layer.weight.flatten(1).norm(dim=1), layer.length.flatten())


def test_a_kernel_smaller_than_its_stride_is_refused():
    with pytest.raises(ValueError, match="at least the stride"):
        CausalConv3d(1, 1, (1, 3, 3), stride=(2, 1, 1))


@pytest.mark.parametrize("stride", [(1, 2, 2), (2, 1, 3), (4, 2, 2)])
def test_an_upsampling_keeps_the_first_frame_single(stride: Size):
    layer = CausalUpsample3d(4, 3, stride, kernel_size=(2, 3, 3)).double()
    found = layer(clips(5, 6, channels=4))
    assert found.shape == (2, 3, 1 + 4 * stride[0], 6 * stride[1], 6 * stride[2])
    whole = layer.conv(clips(1, 6, channels=4))
    assert whole.shape[1] == 3 * stride[0] * stride[1] * stride[2]


def test_the_outputs_of_one_input_are_equal_at_the_start():
    layer = CausalUpsample3d(4, 3, (2, 2, 2), kernel_size=(2, 3, 3)).double()
    found = layer(clips(3, 6, channels=4))
    assert found[:, :, 1].equal(found[:, :, 2])
    assert found[..., ::2].equal(found[..., 1::2])
    assert found[..., ::2, :].equal(found[..., 1::2, :])
    assert not found[:, :, 0].equal(found[:, :, 1])


def test_a_still_clip_is_still_after_any_layer():
    network, x = stack().double(), clips(1).expand(-1, -1, 9, -1, -1)
    found = network(x)
    assert_close(found, found[:, :, :1].expand_as(found), rtol=0, atol=1e-12)


def test_the_outputs_of_one_input_lie_side_by_side():
    layer = CausalUpsample3d(2, 3, (2, 2, 3), kernel_size=(1, 1, 1)).double()
    nn.init.normal_(layer.conv.direction)
    x = clips(3, 4, channels=2)
    channels = layer.conv(x).unflatten(1, (3, 2, 2, 3))
    found = layer(x)
    for t, y, x_ in ((1, 0, 0), (2, 3, 5), (4, 7, 11)):
        code, part = (t + 1) // 2, (t + 1) % 2
        expected = channels[:, :, part, y % 2, x_ % 3, code, y // 2, x_ // 3]
        assert_close(found[:, :, t, y, x_], expected)


def test_outputs_do_not_change_by_one_bit_when_later_frames_do():
    network, x = stack().double(), clips(9)
    before = network(x)
    for frame in range(9):
        changed = x.clone()
        changed[:, :, frame:] = torch.randn_like(changed[:, :, frame:])
        # The first of the hop that the frame lies in: 0; 1 to 4; 5 to 8.
        kept = 0 if frame == 0 else 1 + (frame - 1) // 4 * 4
        after = network(changed)
        assert after[:, :, :kept].equal(before[:, :, :kept])
        assert not after[:, :, kept:].equal(before[:, :, kept:])


@pytest.mark.parametrize("size", [4, 8, 12, 40])
def test_chunks_give_what_the_whole_gives(size: int):
    network, x = stack().double(), clips(25)
    found = in_chunks(network, x, size, first=1 + size)
    assert_close(found, network(x), rtol=0, atol=1e-12)


def test_the_whole_in_one_chunk_is_the_same_to_the_last_bit():
    network, x = stack(), clips(9).float()
    assert network(x, {}).equal(network(x))


def test_what_is_kept_of_the_past_does_not_grow():
    network, past = stack().double(), Past()
    network(clips(5), past)
    sizes = {layer: seen.shape for layer, seen in past.items()}
    for _ in range(3):
        network(clips(8), past)
    assert {layer: seen.shape for layer, seen in past.items()} == sizes


def test_folded_filters_are_the_filters():
    network, x = stack(), clips(9).float()
    before = network(x)
    fold(network)
    assert network(x).equal(before)


def test_features_keep_their_size_at_the_start():
    x = channels_last(torch.randn(2, 16, 9, 16, 16))
    for layer in (CausalConv3d(16, 32, (3, 3, 3)), CausalResidual3d(16, 8)):
        assert 0.7 < layer(x)[:, :, 2:, 1:-1, 1:-1].std() < 1.4
