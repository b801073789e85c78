"""What must hold for the networks of clips."""

from pathlib import Path
from typing import Any

import pytest
import torch
from tests.modalities.video.clips import clips, config, model, ragged
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.autoencoder.hierarchy import without_hidden
from vqkit.codes import Codes, Level
from vqkit.modalities.video import CausalVideoConfig, network
from vqkit.modalities.video.network import held
from vqkit.tokens.sizes import cropped

NETWORKS: dict[str, dict[str, Any]] = {
    "strides": {"patch": 2, "strides": ((2, 2),)},
    "pixels": {"patch": 1, "strides": ((2, 2), (1, 2))},
    "time alone": {"patch": 1, "strides": ((2, 1), (2, 1))},
    "space alone": {"patch": 4, "strides": ()},
    "threes": {"patch": 1, "strides": ((3, 1), (1, 3)), "activation": "elu", "units": 0},
}


def small(name: str) -> CausalVideoConfig:
    return CausalVideoConfig(**({"hidden": 4, "dim": 3, "depth": 1} | NETWORKS[name]))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_code_stands_for_as_much_as_the_config_says(name: str, channels: int):
    shape = small(name)
    x = torch.randn(2, channels, 1 + 2 * shape.hop, 2 * shape.side, 3 * shape.side)
    z = shape.encoder(channels)(x)
    assert z.shape == (2, 3, 3, 2, 3)
    assert shape.decoder(channels)(z).shape == x.shape


@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (4, 13)])
@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 9])
def test_clips_of_any_length_and_size_go_in_and_come_out(num_frames: int, size: tuple[int, int]):
    tokenizer = model()
    x = clips(2, num_frames, size)
    out = tokenizer(x)
    assert out.reconstruction.shape == x.shape
    grid = (1 + num_frames // 2, -(-size[0] // 4), -(-size[1] // 4))
    assert out.codes.levels[0].spec.grid == grid
    decoded = tokenizer.decode(tokenizer.encode(x))
    box = tuple(slice(length) for length in x.shape[2:])
    assert_close(decoded[(..., *box)], out.reconstruction, rtol=0, atol=1e-5)


def test_a_still_image_is_the_first_frame_of_a_clip():
    tokenizer = model().double()
    x = clips(3, 6)
    codes, still = (tokenizer.encode(each).levels[0].indices for each in (x, x[:, :, :1]))
    assert still.shape[1] == 1
    assert codes[:, :1].equal(still)
    decoded, image = (
        tokenizer.decode(tokenizer.encode(x)),
        tokenizer.decode(tokenizer.encode(x[:, :, :1])),
    )
    assert image.shape[2] == 1
    assert_close(decoded[:, :, :1], image, rtol=0, atol=1e-9)


def test_a_masked_batch_gives_what_its_items_give_alone():
    tokenizer, lengths = model().double(), [6, 3, 1, 2]
    x, mask = ragged(lengths)
    together, codes = tokenizer(x, mask), tokenizer.encode(x, mask).levels[0]
    for i, length in enumerate(lengths):
        own = x[i : i + 1, :, :length]
        alone, level = tokenizer(own), tokenizer.encode(own).levels[0]
        num = level.indices.shape[1]
        assert codes.mask is not None
        assert codes.mask[i].sum() == num * 4
        assert codes.indices[i, :num].equal(level.indices[0])
        found = together.reconstruction[i : i + 1, :, :length]
        assert_close(found, alone.reconstruction, rtol=0, atol=1e-9)


def test_a_hop_that_is_not_whole_is_filled_up_with_the_last_frame():
    tokenizer = model(strides=((4, 2),))
    x = clips(2, 7)
    longer = torch.cat([x, x[:, :, -1:], x[:, :, -1:]], 2)
    assert tokenizer.encode(x).flat().equal(tokenizer.encode(longer).flat())
    kept = held(x.float(), torch.arange(7).view(1, 7, 1, 1).expand(2, 7, 8, 8) < 3)
    assert kept[:, :, :3].equal(x[:, :, :3].float())
    assert kept[:, :, 3:].equal(x[:, :, 2:3].float().expand(-1, -1, 4, -1, -1))


def test_a_frame_depends_on_codes_up_to_its_own_and_on_no_later_ones():
    decoder = config().network.decoder(3)
    z = torch.randn(1, 4, 5, 2, 2)
    changed = z.clone()
    changed[:, :, 3:] = torch.randn(1, 4, 2, 2, 2)
    same = (decoder(z) == decoder(changed)).flatten(3).all(3)[0, 0]
    assert same[:5].all()
    assert not same[5:].any()


def test_a_code_depends_on_frames_up_to_its_own_and_on_no_later_ones():
    encoder = config().network.encoder(3)
    x = torch.randn(1, 3, 9, 8, 8)
    for frame in range(9):
        changed = x.clone()
        changed[:, :, frame:] = torch.randn(1, 3, 9 - frame, 8, 8)
        code = (frame + 1) // 2
        before, after = encoder(x), encoder(changed)
        assert after[:, :, :code].equal(before[:, :, :code])
        assert not after[:, :, code].equal(before[:, :, code])


def test_the_mask_of_codes_and_what_they_stand_for_are_each_others_mirror():
    encoder = config().network.encoder(3)
    real = torch.rand(3, 4, 2, 3) < 0.5
    spread = encoder.spread(real)
    assert spread.shape == (3, 7, 8, 12)
    assert encoder.code_mask(spread).equal(real)
    assert spread[:, 0].equal(real[:, 0].repeat_interleave(4, 1).repeat_interleave(4, 2))
    assert spread[:, 1].equal(spread[:, 2])
    one = torch.zeros(1, 7, 8, 12, dtype=torch.bool)
    one[0, 4, 5, 11] = True
    assert encoder.code_mask(one).nonzero().tolist() == [[0, 2, 1, 2]]


def test_clips_of_drawn_lengths_are_cut_to_the_frames_that_their_codes_stand_for():
    tokenizer, codes = model(), model().encode(clips(3, 7))
    mask = torch.zeros(3, 4, 2, 2, dtype=torch.bool)
    for row, length in zip(mask, (4, 1, 3), strict=True):
        row[:length] = True
    (level,) = codes.levels
    drawn = Codes((Level(level.indices, level.codebook_sizes, level.structure, mask),))
    found = cropped(tokenizer.decode(drawn), drawn, tokenizer.encoder)
    assert [tuple(x.shape) for x in found] == [(3, num, 8, 8) for num in (7, 1, 5)]


def test_what_is_hidden_gets_no_gradient_from_the_frames_that_it_stands_for():
    tokenizer = model()
    level = tokenizer(clips(1, 5))
    hidden = torch.zeros(1, 3, 2, 2, dtype=torch.bool)
    hidden[:, 1] = True

    class Part:
        quantized = type("Quantized", (), {"hidden": hidden})

    outputs = level.reconstruction.detach().requires_grad_()
    found = without_hidden(outputs, [Part()], tokenizer.encoder)  # pyright: ignore
    (gradient,) = torch.autograd.grad(found.sum(), outputs)
    assert gradient[0, 0, :, 0, 0].tolist() == [1, 0, 0, 1, 1]


def test_long_clips_are_worked_on_in_chunks_with_the_same_result(monkeypatch: pytest.MonkeyPatch):
    tokenizer = model().double()
    x = clips(2, 24)
    with torch.no_grad():
        whole = tokenizer(x)
        monkeypatch.setattr(network, "CHUNK", 2 * 64 * 4)
        chunked = tokenizer(x)
    assert chunked.codes.flat().equal(whole.codes.flat())
    assert_close(chunked.reconstruction, whole.reconstruction, rtol=0, atol=1e-9)


def test_a_model_of_clips_is_saved_and_opened_as_it_was(tmp_path: Path):
    tokenizer = model(fps=12.5, channels=1)
    tokenizer.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path)
    assert opened.config == tokenizer.config
    assert opened.fingerprint() == tokenizer.fingerprint()
    codes = tokenizer.encode(clips(2, 5, channels=1))
    assert opened.decode(codes).equal(tokenizer.decode(codes))


def test_the_forward_foretells_its_counts():
    tokenizer = model()
    x, mask = ragged([6, 3, 1, 2])
    for m in (mask, None):
        found = {name: mean.count for name, mean in tokenizer(x, m).objectives.items()}
        assert tokenizer.counts(x, m) == found
