"""What must hold for the networks of sound."""

from typing import Any

import pytest
import torch
from tests.modalities.audio.sounds import config, model, ragged, signals
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.modalities.audio import CausalConfig, network

NETWORKS: dict[str, dict[str, Any]] = {
    "strides": {"strides": (2, 3)},
    "patches": {"patch": 4, "strides": (2,)},
    "patches alone": {"patch": 8, "strides": ()},
    "late": {"patch": 2, "strides": (4,), "delay": 2},
    "snake": {"strides": (4,), "activation": "snake", "units": 2},
}


def small(name: str) -> CausalConfig:
    return CausalConfig(**({"hidden": 4, "dim": 3, "depth": 1} | NETWORKS[name]))


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_code_stands_for_as_many_samples_as_the_config_says(name: str, channels: int):
    shape = small(name)
    x = torch.randn(2, channels, 5 * shape.hop)
    z = shape.encoder(channels)(x)
    assert z.shape == (2, 3, 5)
    assert shape.decoder(channels)(z).shape == x.shape


@pytest.mark.parametrize("delay", [0, 1, 3])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 50])
def test_sound_of_any_length_goes_in_and_comes_out(delay: int, length: int):
    tokenizer = model(delay=delay)
    x = signals(2, length)
    out = tokenizer(x)
    assert out.reconstruction.shape == x.shape
    assert out.codes.levels[0].indices.shape[1] == -(-length // 8)
    decoded = tokenizer.decode(tokenizer.encode(x))
    assert_close(decoded[..., :length], out.reconstruction, rtol=0, atol=1e-5)


@pytest.mark.parametrize("delay", [0, 2])
def test_a_masked_batch_gives_what_its_items_give_alone(delay: int):
    tokenizer = model(delay=delay).double()
    lengths = [50, 23, 16, 1]
    x, mask = ragged(lengths)
    x = x.double()
    together, codes = tokenizer(x, mask), tokenizer.encode(x, mask)
    for i, length in enumerate(lengths):
        own = x[i : i + 1, :, :length]
        alone, level = tokenizer(own), tokenizer.encode(own).levels[0]
        num = level.indices.shape[1]
        assert codes.levels[0].indices[i, :num].equal(level.indices[0])
        assert codes.levels[0].mask is not None
        assert codes.levels[0].mask[i].sum() == num
        found = together.reconstruction[i : i + 1, :, :length]
        assert_close(found, alone.reconstruction, rtol=0, atol=1e-9)


def test_a_sample_depends_on_codes_up_to_its_own_and_on_no_later_ones():
    decoder = config().network.decoder(1)
    z = torch.randn(1, 6, 10)
    changed = z.clone()
    changed[..., 6:] = torch.randn(1, 6, 4)
    same = (decoder(z) == decoder(changed))[0, 0]
    assert same[:48].all()
    assert not same[48:].all()


@pytest.mark.parametrize("delay", [0, 1, 2])
def test_a_code_depends_on_samples_up_to_the_delay_and_on_no_later_ones(delay: int):
    encoder = config(delay=delay).network.encoder(1)
    x = torch.randn(1, 1, 80)
    for code in range(10):
        last = (code + 1 + delay) * 8
        changed = x.clone()
        changed[..., last:] = torch.randn(1, 1, max(0, 80 - last))
        assert encoder(x)[..., code].equal(encoder(changed)[..., code])
        changed = x.clone()
        changed[..., last - 8 : last] = torch.randn(1, 1, 8)[..., : max(0, 80 - last + 8)]
        assert last > 80 or not encoder(x)[..., code].equal(encoder(changed)[..., code])


def test_long_sound_is_worked_on_in_chunks_with_the_same_result(monkeypatch: pytest.MonkeyPatch):
    tokenizer = model(delay=1).double()
    x = signals(2, 333).double()
    with torch.no_grad():
        whole = tokenizer(x)
        monkeypatch.setattr(network, "CHUNK", 2 * 40)
        chunked = tokenizer(x)
    assert chunked.codes.flat().equal(whole.codes.flat())
    assert_close(chunked.reconstruction, whole.reconstruction, rtol=0, atol=1e-9)


def test_a_model_of_sound_is_saved_and_opened_as_it_was(tmp_path: Any):
    tokenizer = model(delay=1, channels=2)
    tokenizer.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path)
    assert opened.config == tokenizer.config
    assert opened.fingerprint() == tokenizer.fingerprint()
    x = signals(2, 100, 2)
    codes = tokenizer.encode(x)
    assert opened.encode(x).flat().equal(codes.flat())
    assert opened.decode(codes).equal(tokenizer.decode(codes))


def test_the_forward_foretells_its_counts():
    tokenizer = model(delay=1)
    x, mask = ragged([50, 23, 16, 1])
    for m in (mask, None):
        found = {name: mean.count for name, mean in tokenizer(x, m).objectives.items()}
        assert tokenizer.counts(x, m) == found
