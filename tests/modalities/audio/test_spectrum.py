"""What must hold for spectrograms."""

import numpy as np
import pytest
import torch
from scipy import signal
from torch.testing import assert_close

from vqkit.modalities.audio.spectrum import frame_mask, hop_of, magnitudes, mel, mel_filters

WINDOWS = [8, 16, 64, 256]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("length", [1, 2, 63, 64, 200])
def test_magnitudes_equal_a_sum_over_samples_in_numpy(window: int, length: int):
    rng = np.random.default_rng(0)
    x, hop = rng.standard_normal(length), window // 4
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
    padded = np.pad(x, window // 2)
    rows = []
    for centre in range(0, length, hop):
        frame = padded[centre : centre + window] * hann
        turns = np.outer(np.arange(window // 2 + 1), np.arange(window)) / window
        rows.append(np.abs((frame * np.exp(-2j * np.pi * turns)).sum(1)))
    assert_close(magnitudes(torch.from_numpy(x), window).numpy(), np.stack(rows), rtol=0, atol=1e-9)


@pytest.mark.parametrize("window", WINDOWS)
def test_magnitudes_equal_those_of_torch_and_scipy(window: int):
    x = torch.randn(3, 500, dtype=torch.float64)
    hann, hop = torch.hann_window(window, dtype=x.dtype), hop_of(window)
    theirs = torch.stft(x, window, hop, window=hann, pad_mode="constant", return_complex=True)
    found = magnitudes(x, window)
    assert_close(found, theirs.abs().transpose(1, 2)[:, : found.shape[1]], rtol=0, atol=1e-12)
    scipys = signal.ShortTimeFFT(hann.numpy(), hop, fs=1.0)
    frames = scipys.stft(x.numpy(), p0=0, p1=found.shape[1])
    assert_close(found.numpy(), np.abs(frames).transpose(0, 2, 1), rtol=0, atol=1e-9)


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("length", [1, 50, 64, 65])
def test_padding_adds_frames_and_changes_none(window: int, length: int):
    x = torch.randn(length, dtype=torch.float64)
    padded = torch.cat([x, x.new_zeros(70)])
    mask = torch.arange(length + 70) < length
    assert_close(magnitudes(padded, window)[frame_mask(mask, window)], magnitudes(x, window))


def test_a_sine_of_full_scale_has_half_its_height_at_its_frequency():
    window = 64
    x = torch.sin(2 * torch.pi * 8 * torch.arange(512) / window)
    frame = magnitudes(x, window)[8] * 2 / window
    assert frame.argmax() == 8
    assert frame[8] == pytest.approx(0.5, abs=1e-6)


@pytest.mark.parametrize(("window", "bands"), [(256, 20), (1024, 80)])
def test_mel_bands_are_triangles_between_their_neighbours_middles(window: int, bands: int):
    rate = 16_000
    top = 2595 * np.log10(1 + rate / 2 / 700)
    edges = [700 * (10 ** (top * i / (bands + 1) / 2595) - 1) for i in range(bands + 2)]
    expected = np.zeros((window // 2 + 1, bands))
    for band, (low, middle, high) in enumerate(zip(edges, edges[1:], edges[2:], strict=False)):
        for bin in range(window // 2 + 1):
            f = bin * rate / window
            rise, fall = (f - low) / (middle - low), (high - f) / (high - middle)
            expected[bin, band] = max(0, min(rise, fall))
    expected /= np.maximum(expected.sum(0), 1e-12)
    assert_close(mel_filters(window, rate, bands).numpy(), expected, rtol=0, atol=1e-9)
    assert_close(mel_filters(window, rate, bands).sum(0), torch.ones(bands).double())


def test_a_flat_spectrum_stays_flat_in_mel_bands():
    assert_close(mel(torch.full((2, 129), 3.0), 8000, 20), torch.full((2, 20), 3.0))
