"""What must hold for the errors that decoders of sound are trained by."""

import math

import numpy as np
import pytest
import torch
from tests.modalities.audio.sounds import RATE, ragged, signals
from torch import Tensor
from torch.testing import assert_close

from vqkit.means import Mean
from vqkit.modalities.audio import SpectralConfig, SpectralObjective
from vqkit.modalities.audio.spectrum import magnitudes, mel_filters

ALL = SpectralConfig(waveform=0.5, sdr=2, stft=0.3, mel=0.7, windows=(16, 64), bands=6)


def objective(config: SpectralConfig = ALL, channels: int = 1) -> SpectralObjective:
    return config.build(RATE, channels)


def noisy(x: Tensor) -> Tensor:
    return x + 0.1 * torch.randn_like(x)


def added(parts: list[dict[str, Mean]]) -> dict[str, Mean]:
    return {name: sum((p[name] for p in parts[1:]), parts[0][name]) for name in parts[0]}


@pytest.mark.parametrize("channels", [1, 2])
def test_every_part_equals_its_formula_in_numpy(channels: int):
    x = signals(3, 90, channels).double()
    y = noisy(x)
    found = objective(channels=channels).loss(y, x)
    error, least = (x - y).numpy(), 1e-8 * 90 * channels
    assert float(found["waveform"].value) == pytest.approx(0.5 * np.abs(error).mean())
    noise, energy = ((each**2).sum((1, 2)) for each in (error, x.numpy()))
    bels = np.log10((noise + least) / (energy + least))
    assert float(found["sdr"].value) == pytest.approx(2 * bels.mean())
    sums, frames = dict.fromkeys(("stft", "mel"), 0.0), 0
    for window, bands in ((16, 2), (64, 6)):
        a, b = (magnitudes(each, window).numpy() * 2 / window for each in (x, y))
        matrix = mel_filters(window, RATE, bands).numpy()
        for name, pair in (("stft", (a, b)), ("mel", (a @ matrix, b @ matrix))):
            logs = [np.log(np.maximum(each, 1e-5)) for each in pair]
            sums[name] += window // 4 * np.abs(logs[0] - logs[1]).mean(3).sum()
        frames += window // 4 * a[..., 0].size
    assert float(found["stft"].value) == pytest.approx(0.3 * sums["stft"] / frames)
    assert float(found["mel"].value) == pytest.approx(0.7 * sums["mel"] / frames)


def test_a_masked_batch_gives_what_its_items_give_alone():
    lengths = [90, 33, 64, 1]
    x, mask = ragged(lengths)
    y = noisy(x).double()
    x = x.double()
    together = objective().loss(y, x, mask)
    alone = [
        objective().loss(y[i : i + 1, :, :n], x[i : i + 1, :, :n]) for i, n in enumerate(lengths)
    ]
    for name, mean in added(alone).items():
        assert_close(together[name].total, mean.total)
        assert together[name].count == mean.count


def test_counts_are_known_before_the_loss():
    for lengths in ([90, 33, 64, 1], [70, 70]):
        x, mask = ragged(lengths, channels=2)
        found = objective(channels=2).loss(noisy(x), x, mask)
        counts = objective(channels=2).counts(x, mask)
        assert {name: mean.count for name, mean in found.items()} == counts
    assert objective().counts(x[:, :1], None) == objective().counts(x[:, :1], mask)


def test_the_loss_of_a_split_batch_equals_the_whole_batchs():
    x, mask = ragged([90, 33, 64, 12])
    y = noisy(x)
    parts = [objective().loss(y[i : i + 2], x[i : i + 2], mask[i : i + 2]) for i in (0, 2)]
    for name, mean in objective().loss(y, x, mask).items():
        assert_close(added(parts)[name].value, mean.value)


def test_losses_do_not_change_when_a_batch_is_repeated():
    x = signals(2, 100)
    y = noisy(x)
    once, twice = objective().loss(y, x), objective().loss(y.repeat(2, 1, 1), x.repeat(2, 1, 1))
    for name, mean in once.items():
        assert_close(twice[name].value, mean.value)


def test_what_is_behind_the_end_of_a_recording_has_no_effect_and_gets_no_gradient():
    x, mask = ragged([90, 33])
    y = noisy(x).requires_grad_()
    loss = torch.stack([m.value for m in objective().loss(y, x, mask).values()]).sum()
    loss.backward()
    assert y.grad is not None
    assert not y.grad[1, :, 33:].any()
    assert y.grad[1, :, :33].all()
    other = torch.where(mask.unsqueeze(1), y.detach(), torch.randn_like(y))
    again = objective().loss(other, x, mask)
    assert_close(torch.stack([m.value for m in again.values()]).sum(), loss.detach())


def test_a_perfect_copy_has_no_spectral_error_and_a_silent_one_a_ratio_of_one():
    x = signals(2, 100)
    copy, silent = objective().loss(x, x), objective().loss(torch.zeros_like(x), x)
    assert [float(copy[name].value) for name in ("waveform", "stft", "mel")] == [0, 0, 0]
    assert float(silent["sdr"].value) == 0


def test_quiet_recordings_count_as_much_as_loud_ones_in_sdr():
    x = signals(1, 100).double()
    y = noisy(x)
    loud, quiet = (objective().loss(scale * y, scale * x)["sdr"].value for scale in (1, 0.05))
    assert float(loud) == pytest.approx(float(quiet), abs=1e-3)


def test_silence_and_its_reconstruction_have_finite_losses_and_gradients():
    x = torch.zeros(2, 1, 100)
    y = torch.stack([torch.zeros(1, 100), 0.1 * torch.randn(1, 100)]).requires_grad_()
    loss = torch.stack([mean.value for mean in objective().loss(y, x).values()]).sum()
    loss.backward()
    assert y.grad is not None
    assert math.isfinite(loss.item())
    assert y.grad.isfinite().all()


def test_parts_without_weight_are_left_out():
    config = SpectralConfig(waveform=1, sdr=0, stft=0, mel=0)
    x = signals(1, 50)
    assert list(objective(config).loss(noisy(x), x)) == ["waveform"]


def test_integers_are_16_bit_samples_and_other_types_are_refused():
    x = torch.tensor([[[-32768, 0, 16384]]], dtype=torch.int16)
    assert objective().normalize(x).tolist() == [[[-1, 0, 0.5]]]
    with pytest.raises(TypeError, match="give floats in"):
        objective().normalize(x.long())
    with pytest.raises(ValueError, match=r"values from -4\.9"):
        objective().normalize(x * -30000.0)


def test_no_likelihood_is_claimed():
    said = objective().distribution(torch.tensor([[[1.5, -2.0, 0.5]]]))
    assert said.mode().tolist() == [[[1, -1, 0.5]]]
    assert not SpectralObjective.claims_likelihood
    with pytest.raises(ValueError, match="no likelihood"):
        said.log_prob(torch.zeros(1, 1, 3))
