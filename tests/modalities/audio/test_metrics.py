"""What must hold for the figures of reconstructed recordings."""

import numpy as np
import pytest
import torch
from tests.modalities.audio.sounds import RATE, ragged, signals
from torch import Tensor

from vqkit.modalities.audio.metrics import AudioMetrics, si_sdr, window_of
from vqkit.modalities.audio.spectrum import magnitudes, mel_filters


def batch(num: int = 5, length: int = 900, channels: int = 1) -> tuple[Tensor, Tensor]:
    x = signals(num, length, channels)
    noise = torch.linspace(0.01, 0.3, num).view(-1, 1, 1) * torch.randn_like(x)
    return x, 0.8 * x + noise


def measured(
    x: Tensor, y: Tensor, mask: Tensor | None = None, *, size: int = 9
) -> dict[str, float]:
    metrics = AudioMetrics(RATE)
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        metrics.add(x[part], y[part], None if mask is None else mask[part])
    return metrics.results()


def test_si_sdr_equals_its_formula_in_numpy():
    x, y = batch(channels=2)
    expected = []
    for one, other in zip(x.double().numpy(), y.double().numpy(), strict=True):
        scale = (one * other).sum() / (one**2).sum()
        ratio = ((scale * one) ** 2).sum() / ((other - scale * one) ** 2).sum()
        expected.append(10 * np.log10(ratio))
    assert si_sdr(x, y).tolist() == pytest.approx(expected, rel=1e-6)
    assert measured(x, y)["si_sdr_db"] == pytest.approx(np.mean(expected), rel=1e-6)


@pytest.mark.slow  # for the import
def test_si_sdr_equals_torchmetrics():
    from torchmetrics.functional.audio import scale_invariant_signal_distortion_ratio as theirs

    x, y = batch()
    assert si_sdr(x, y).tolist() == pytest.approx(theirs(y, x).flatten().tolist(), rel=1e-4)


def test_distances_equal_their_formulas_in_numpy():
    x, y = batch()
    found, distances = measured(x, y), []
    for seconds in (0.008, 0.032, 0.128):
        window = window_of(seconds, RATE)
        a, b = (
            np.maximum(magnitudes(each, window).double().numpy() * 2 / window, 1e-5)
            for each in (x, y)
        )
        errors = 20 * np.log10(a) - 20 * np.log10(b)
        distances.append(np.abs(errors).mean())
        if seconds == 0.032:
            spectral = np.sqrt((errors**2).mean(3)).mean()
            assert found["log_spectral_distance_db"] == pytest.approx(spectral, rel=1e-5)
            matrix = mel_filters(window, RATE, window // 8).numpy()
            mels = [20 * np.log10(np.maximum(each @ matrix, 1e-5)) for each in (a, b)]
            mel = np.abs(mels[0] - mels[1]).mean()
            assert found["mel_distance_db"] == pytest.approx(mel, rel=1e-4)
    assert found["stft_distance_db"] == pytest.approx(np.mean(distances), rel=1e-5)


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_figures_do_not_depend_on_the_batches(size: int):
    x, y = batch()
    assert measured(x, y, size=size) == pytest.approx(measured(x, y), rel=1e-9)


def test_a_masked_batch_gives_what_its_items_give_alone():
    lengths = [900, 333, 64]
    x, mask = ragged(lengths)
    y = x + 0.1 * torch.randn_like(x)
    alone = AudioMetrics(RATE)
    for i, length in enumerate(lengths):
        alone.add(x[i : i + 1, :, :length], y[i : i + 1, :, :length])
    assert measured(x, y, mask) == pytest.approx(alone.results(), rel=1e-5)


def test_si_sdr_does_not_depend_on_loudness_and_distances_do():
    x, y = batch()
    assert si_sdr(x, 0.5 * y).tolist() == pytest.approx(si_sdr(x, y).tolist(), abs=1e-5)
    half = measured(x, 0.5 * x)
    distances = [value for name, value in half.items() if "distance" in name]
    assert distances == pytest.approx(3 * [20 * np.log10(2)], rel=1e-3)


def test_a_perfect_copy_is_at_no_distance():
    x, _ = batch()
    found = measured(x, x)
    assert found["si_sdr_db"] == pytest.approx(100, abs=1e-3)
    assert [found[name] for name in found if "distance" in name] == [0, 0, 0]


def test_silence_has_no_si_sdr_and_is_counted():
    x, y = batch(2)
    x[0] = 0
    found = measured(x, y)
    assert found["num_silent"] == 1
    assert found["si_sdr_db"] == pytest.approx(float(si_sdr(x[1:], y[1:])))
    assert "si_sdr_db" not in measured(x[:1], y[:1])


def test_a_silent_copy_is_the_worst_there_is():
    x, y = batch(2)
    y[0] = 0
    assert si_sdr(x, y)[0] == -100
    assert si_sdr(x, y)[1] > -100


def test_nothing_measured_gives_nothing():
    assert AudioMetrics(RATE).results() == {}


@pytest.mark.parametrize("length", [1, 2, 15])
def test_the_shortest_recordings_have_figures(length: int):
    x, y = batch(2, length)
    assert all(np.isfinite(value) for value in measured(x, y).values())
