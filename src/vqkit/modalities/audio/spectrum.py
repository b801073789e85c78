"""Spectrograms: how loud each frequency is around each moment."""

import math
from functools import lru_cache
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

Window = Annotated[int, Field(ge=8, multiple_of=4)]
OVERLAP = 4  # windows that a sample lies in


def hop_of(window: int) -> int:
    """Samples from one frame to the next."""
    return max(1, window // OVERLAP)


def magnitudes(x: Tensor, window: int) -> Tensor:
    """Magnitudes of the short-time Fourier transform, around every hop-th sample.

    Frame t is centred on sample t hop, for all such samples: what ``torch.stft`` gives of a Hann
    window with zeros around, but for a last frame that would be centred behind the end.

    Args:
        x: Signals; zeros at the end change no frame but add frames. (..., T)
        window: Samples of a frame, an even number.

    Returns:
        (..., ceil(T / hop), window / 2 + 1)
    """
    hop, length = hop_of(window), x.shape[-1]
    frames = F.pad(x, (window // 2, window // 2)).unfold(-1, window, hop)
    frames = frames[..., : -(-length // hop), :]
    shape = torch.hann_window(window, dtype=x.dtype, device=x.device)
    return torch.fft.rfft(frames * shape).abs()


def frame_mask(mask: Tensor, window: int) -> Tensor:
    """Which frames of ``magnitudes`` are centred on a real sample. (..., T) bool"""
    return mask[..., :: hop_of(window)]


@lru_cache(maxsize=64)
def mel_filters(window: int, sample_rate: int, bands: int) -> Tensor:
    """Triangles that add up neighbouring frequencies, as wide as the ear hears them apart.

    Of equal width on the scale 2595 log10(1 + f / 700), each beginning and ending in the middle of
    its neighbours, from 0 to half the sample rate; each sums to 1 where it holds any frequency.

    Args:
        window: Samples of a frame.
        sample_rate: Hz.
        bands: Number of triangles M.

    Returns:
        (window / 2 + 1, M) float64
    """
    highest = 2595 * math.log10(1 + sample_rate / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, bands + 2, dtype=torch.float64) / 2595) - 1)
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    f = torch.linspace(0, sample_rate / 2, window // 2 + 1, dtype=torch.float64).unsqueeze(1)
    weights = torch.minimum((f - low) / (middle - low), (high - f) / (high - middle)).clamp(min=0)
    return weights / weights.sum(0).clamp(min=1e-12)


def mel(spectrum: Tensor, sample_rate: int, bands: int) -> Tensor:
    """Magnitudes summed over mel bands. (..., window / 2 + 1) to (..., M)"""
    window = 2 * (spectrum.shape[-1] - 1)
    return spectrum @ mel_filters(window, sample_rate, bands).to(spectrum)
