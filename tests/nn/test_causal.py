"""What must hold for causal convolutions, whole and chunk by chunk."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit.nn.causal import (
    CausalConv,
    CausalResidual,
    CausalStack,
    CausalUpsample,
    Past,
    Snake,
    channels_last,
    fold,
    in_chunks,
)

CONVS = [
    {"kernel_size": 1},
    {"kernel_size": 7},
    {"kernel_size": 3, "dilation": 9},
    {"kernel_size": 4, "stride": 2},
    {"kernel_size": 7, "stride": 3},
]


def stack() -> CausalStack:
    """Everything there is: three channels in, one code for six inputs, and back."""
    return CausalStack(
        CausalConv(3, 8, 7),
        CausalResidual(8, 4, dilation=3),
        nn.ELU(),
        CausalConv(8, 12, 4, stride=2),
        CausalConv(12, 12, 7, stride=3),
        Snake(12),
        CausalUpsample(12, 8, 3, kernel_size=3),
        CausalResidual(8, 4, kernel_size=5, dilation=2, activation="silu"),
        CausalUpsample(8, 3, 2),
    )


def signals(length: int, *, channels: int = 3, dtype: torch.dtype = torch.float64) -> Tensor:
    return channels_last(torch.randn(2, channels, length, dtype=dtype))


@pytest.mark.parametrize("options", CONVS, ids=str)
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_a_convolution_equals_torchs_on_an_input_padded_at_its_beginning(
    options: dict[str, int], channels: int
):
    layer = CausalConv(channels, 5, **options).double()
    nn.init.normal_(layer.bias)
    x = signals(36, channels=channels)
    padded = F.pad(x.squeeze(2), (layer.context, 0))
    strides = {"stride": layer.stride, "dilation": layer.dilation}
    expected = F.conv1d(padded, layer.weight.squeeze(2), layer.bias, **strides)
    assert_close(layer(x).squeeze(2), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("stride", [1, 2, 5])
@pytest.mark.parametrize("kernel_size", [1, 2, 3])
def test_an_upsampling_equals_a_transposed_convolution_cut_at_its_end(
    stride: int, kernel_size: int
):
    layer = CausalUpsample(4, 3, stride, kernel_size=kernel_size).double()
    x = signals(7, channels=4)
    # Filter k of output s o reaches kernel_size - 1 - k inputs back.
    filters = layer.conv.weight.squeeze(2).unflatten(0, (stride, 3)).flip(3)  # (s, O, C, K)
    transposed = filters.permute(2, 1, 3, 0).flatten(2)
    expected = F.conv_transpose1d(x.squeeze(2), transposed, stride=stride)[..., : 7 * stride]
    assert_close(layer(x).squeeze(2), expected, rtol=0, atol=1e-12)


def test_filters_have_the_length_and_direction_of_weight_normalization():
    layer = CausalConv(4, 6, 3)
    torch.nn.init.uniform_(layer.length, 0.5, 2)
    plain = nn.Conv1d(4, 6, 3)
    reference = nn.utils.parametrizations.weight_norm(plain)
    kept = reference.parametrizations.weight
    kept.original0.data, kept.original1.data = layer.length.data[:, :, 0], layer.direction[:, :, 0]
    assert_close(layer.weight.squeeze(2), reference.weight)
    assert_close(layer.weight.flatten(1).norm(dim=1), layer.length.flatten())


@pytest.mark.parametrize("time", [0, 5, 6, 23, 35])
def test_what_comes_later_changes_no_bit_of_what_was_before(time: int):
    network, x = stack().float(), signals(36, dtype=torch.float32)
    changed = x.clone()
    changed[..., time:] = torch.randn(2, 3, 1, 36 - time)
    own = time // 6 * 6  # a code stands for six inputs
    assert torch.equal(network(x)[..., :own], network(changed)[..., :own])
    assert not torch.equal(network(x)[..., own:], network(changed)[..., own:])


@pytest.mark.parametrize("size", [6, 12, 18, 30, 66])
def test_chunks_of_any_size_give_what_the_whole_gives(size: int):
    network, x = stack().double(), signals(66).squeeze(2)
    found = in_chunks(lambda part, past: network(channels_last(part), past).squeeze(2), x, size)
    assert_close(found, network(channels_last(x)).squeeze(2), rtol=0, atol=1e-9)


def test_chunks_of_unequal_sizes_give_what_the_whole_gives_in_float32():
    network, x = stack(), signals(66, dtype=torch.float32)
    past: Past = {}
    parts = [network(part, past) for part in x.split([6, 30, 12, 18], dim=3)]
    assert_close(torch.cat(parts, 3), network(x), rtol=0, atol=1e-5)


def test_the_whole_as_one_chunk_is_the_same_bit_for_bit():
    network, x = stack(), signals(66, dtype=torch.float32)
    assert torch.equal(network(x, {}), network(x))


def test_a_stream_keeps_nothing_but_the_last_inputs_of_each_convolution():
    network, x = stack(), signals(66, dtype=torch.float32)
    past: Past = {}
    network(x, past)
    sizes = {layer: kept.shape[3] for layer, kept in past.items()}
    assert sizes == {
        layer: layer.context
        for layer in network.modules()
        if isinstance(layer, CausalConv) and layer.context
    }


def test_folded_filters_give_the_same_bit_for_bit_where_there_are_many_outputs():
    network, x = stack(), signals(6000, dtype=torch.float32)
    expected = network(x)
    fold(network)
    assert torch.equal(network(x), expected)


@pytest.mark.parametrize("length", [6, 36, 120])
@pytest.mark.parametrize(("kind", "bound"), [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_folded_filters_of_few_outputs_sum_in_another_order_at_most(
    length: int, kind: torch.dtype, bound: float
):
    network, x = stack().to(kind), signals(length, dtype=kind)
    expected = network(x)
    fold(network)
    assert_close(network(x), expected, rtol=bound, atol=bound)


def test_gradients_reach_every_weight_and_agree_with_differences():
    network, x = stack().double(), signals(12)
    network(x).square().sum().backward()
    assert all(each.grad is not None and each.grad.any() for each in network.parameters())
    layer = CausalConv(1, 2, 3).double()
    assert torch.autograd.gradcheck(lambda y: layer(y), signals(6, channels=1).requires_grad_())


def test_snake_adds_the_squared_sine_of_each_channel_over_its_frequency():
    layer = Snake(3).double()
    torch.nn.init.uniform_(layer.frequency, 0.5, 3)
    x = signals(5)
    a = layer.frequency.view(1, 3, 1, 1)
    assert_close(layer(x), x + (a * x).sin() ** 2 / a, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("activation", ["elu", "silu", "snake"])
def test_signals_keep_their_size_through_many_layers_at_the_start(activation: str):
    layers = [CausalResidual(32, 16, activation=activation) for _ in range(20)]  # pyright: ignore
    x = signals(200, channels=32, dtype=torch.float32)
    assert 0.5 < CausalStack(*layers)(x).std() / x.std() < 2


def test_a_kernel_shorter_than_its_stride_is_refused():
    with pytest.raises(ValueError, match="give at least the stride, 4"):
        CausalConv(1, 1, 3, stride=4)
