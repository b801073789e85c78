"""Sounds that tests make: tones and noise as files, and tiny models of them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.modalities.audio import AudioModelConfig, CausalConfig, SpectralConfig
from vqkit.quantizers import EMAConfig, ResidualConfig

RATE = 8000


def tone(length: int, *, hertz: float = 440, rate: int = RATE, loud: float = 0.5) -> np.ndarray:
    """A sine of so many samples. (T,) float32"""
    time = np.arange(length) / rate
    return (loud * np.sin(2 * np.pi * hertz * time)).astype(np.float32)


def file_of(
    samples: np.ndarray, *, rate: int = RATE, kind: str = "WAV", subtype: str | None = None
) -> bytes:
    """A sound file of samples (T,) or (T, C)."""
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format=kind, subtype=subtype)
    return buffer.getvalue()


def make_sounds(folder: Path, num: int = 12, *, rate: int = RATE) -> Path:
    """Noisy tones of unequal lengths, low and high ones in a sub-folder each."""
    rng = np.random.default_rng(0)
    for i in range(num):
        name, hertz = (("low", 220), ("high", 880))[i % 2]
        place = folder / name
        place.mkdir(parents=True, exist_ok=True)
        samples = tone(int(rng.integers(300, 700)), hertz=hertz * rng.uniform(0.8, 1.2), rate=rate)
        samples += 0.05 * rng.standard_normal(len(samples)).astype(np.float32)
        (place / f"{i:03d}.wav").write_bytes(file_of(samples, rate=rate))
    return folder


def config(
    *, stages: int = 3, delay: int = 0, channels: Any = 1, **objective: Any
) -> AudioModelConfig:
    """A tiny model: 8 samples a code."""
    network = CausalConfig(
        patch=2, strides=(4,), hidden=8, depth=1, kernel_size=3, dim=6, delay=delay
    )
    quantizer = ResidualConfig(quantizer=EMAConfig(codebook_size=8), stages=stages, dropout=0.5)
    spectral = SpectralConfig(**({"sdr": 1.0, "windows": (16, 64), "bands": 8} | objective))
    return AudioModelConfig(
        sample_rate=RATE,
        channels=channels,
        network=network,
        quantizer=quantizer,
        objective=spectral,
    )


def model(**options: Any) -> VQVAE:
    """A tiny model whose codebooks have started."""
    torch.manual_seed(0)
    found = VQVAE.from_config(config(**options))
    found.initialize([signals(8, 400, found.config.channels)], seed=0)  # pyright: ignore
    return found.eval()


def signals(num: int, length: int, channels: int = 1, *, seed: int = 0) -> Tensor:
    """Noisy tones. (num, channels, length) float32"""
    generator = torch.Generator().manual_seed(seed)
    time, pitch = torch.arange(length) / RATE, torch.rand(num, channels, 1, generator=generator)
    waves = torch.sin(2 * torch.pi * (200 + 800 * pitch) * time)
    return 0.5 * waves + 0.05 * torch.randn(num, channels, length, generator=generator)


def ragged(lengths: list[int], channels: int = 1) -> tuple[Tensor, Tensor]:
    """Signals of unequal lengths, noise behind their ends, and their mask."""
    x = signals(len(lengths), max(lengths), channels)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return x, mask
