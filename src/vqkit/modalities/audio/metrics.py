"""How far reconstructions are from recordings, over a whole split."""

import math
from typing import Literal, get_args

import torch
from torch import Tensor

from vqkit.distributed import all_reduce
from vqkit.means import Mean
from vqkit.modalities.audio.levels import normalize
from vqkit.modalities.audio.spectrum import frame_mask, magnitudes, mel

SILENT = 1e-10  # energy of a sample, -100 dB of full scale, below which there is no recording
FAINT = 1e-5  # magnitude, likewise, below which all is alike
WINDOWS_S = (0.008, 0.032, 0.128)
MIDDLE = 1  # which of these mel and log-spectral distance have
BANDS = 80
BINS_PER_BAND = 4  # or the lowest bands would hold none

LEAST_DB = -100.0  # SI-SDR of a copy that is silent, or has nothing to do with the recording
Part = Literal["si_sdr", "mel", "log_spectral", "stft 0", "stft 1", "stft 2"]
STFT: tuple[Part, ...] = ("stft 0", "stft 1", "stft 2")


class AudioMetrics:
    """SI-SDR, and distances of spectrograms in dB.

    Kept as float64 totals and counts: the figures depend neither on the batches nor on the ranks.

    Args:
        sample_rate: Hz.
        device: Where the recordings are.
    """

    def __init__(self, sample_rate: int, *, device: torch.device | str = "cpu") -> None:
        self.sample_rate = sample_rate
        self.windows = tuple(window_of(seconds, sample_rate) for seconds in WINDOWS_S)
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.parts = {part: Mean(zero, zero.long()) for part in get_args(Part)}
        self.num_silent = zero.long()

    @torch.no_grad()
    def add(self, x: Tensor, reconstruction: Tensor, mask: Tensor | None = None) -> None:
        """Counts a batch in.

        Args:
            x: Recordings, int16 or floating in [-1, 1]. (B, C, T)
            reconstruction: The model's. (B, C, T)
            mask: True where a sample is real; None when all are. (B, T) bool
        """
        x, y = normalize(x).float(), reconstruction.float()
        real = torch.ones_like(x[:, 0], dtype=torch.bool) if mask is None else mask
        x, y = (each.masked_fill(~real.unsqueeze(1), 0) for each in (x, y))
        heard = x.square().flatten(1).sum(1) > SILENT * x.shape[1] * real.sum(1)
        self.num_silent = self.num_silent + (~heard & real.any(1)).sum()
        self._count("si_sdr", si_sdr(x, y), heard)
        for number, (part, window) in enumerate(zip(STFT, self.windows, strict=True)):
            spectra = [magnitudes(each, window) * (2 / window) for each in (x, y)]
            frames = frame_mask(real, window).unsqueeze(1).expand(spectra[0].shape[:3])
            errors = decibels(spectra[0]) - decibels(spectra[1])
            self._count(part, errors.abs().mean(3), frames)
            if number == MIDDLE:
                self._count("log_spectral", errors.square().mean(3).sqrt(), frames)
                bands = min(BANDS, max(1, window // (2 * BINS_PER_BAND)))
                heard_as = [decibels(mel(each, self.sample_rate, bands)) for each in spectra]
                self._count("mel", (heard_as[0] - heard_as[1]).abs().mean(3), frames)

    def _count(self, part: Part, values: Tensor, real: Tensor) -> None:
        self.parts[part] = self.parts[part] + Mean.over(values.double(), real)

    def results(self) -> dict[str, float]:
        """The figures over all batches of all ranks; every rank must call it.

        Returns:
            ``si_sdr_db``, the mean of each recording's, if any is not silent; ``mel_distance_db``,
            ``log_spectral_distance_db`` and, for windows of 8, 32 and 128 ms and then their mean,
            ``stft_distance_db``, means over frames; ``num_silent`` recordings. Empty when there was
            nothing.
        """
        values = {
            part: Mean(all_reduce(mean.total.clone()), all_reduce(mean.count.clone()))
            for part, mean in self.parts.items()
        }
        silent = float(all_reduce(self.num_silent.clone()))
        if not values["mel"].count:
            return {}
        found: dict[str, float] = {}
        if values["si_sdr"].count:
            found["si_sdr_db"] = float(values["si_sdr"].value)
        found["mel_distance_db"] = float(values["mel"].value)
        found["stft_distance_db"] = sum(float(values[part].value) for part in STFT) / len(STFT)
        found["log_spectral_distance_db"] = float(values["log_spectral"].value)
        return found | {"num_silent": silent}


def window_of(seconds: float, sample_rate: int) -> int:
    """The power of two that is nearest to so many seconds, at least 16 samples."""
    return 2 ** max(4, round(math.log2(seconds * sample_rate)))


def si_sdr(x: Tensor, y: Tensor) -> Tensor:
    """Scale-invariant signal-to-distortion ratio in dB.

    SDR - half-baked or well done?, equation 5, https://arxiv.org/abs/1811.02508; no mean is
    subtracted; at most 100 dB, and at least -100, which a silent copy has.

    Args:
        x: Recordings; 0 where they are not real. (B, C, T)
        y: What is compared with them. (B, C, T)

    Returns:
        (B,) float64
    """
    x, y = x.flatten(1).double(), y.flatten(1).double()
    energy = x.square().sum(1).clamp(min=1e-30)
    target = (x * y).sum(1, keepdim=True) / energy.unsqueeze(1) * x
    kept, lost = target.square().sum(1), (y - target).square().sum(1)
    found = 10 * ((kept + 1e-30) / (lost + 1e-10 * kept + 1e-30)).log10()
    silent = y.square().sum(1) <= 1e-10 * SILENT * energy
    return found.clamp(min=LEAST_DB).masked_fill(silent, LEAST_DB)


def decibels(magnitude: Tensor) -> Tensor:
    """Magnitudes in dB of full scale. (...)"""
    return 20 * magnitude.clamp(min=FAINT).log10()
