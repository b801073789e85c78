"""What decoders of sound are trained for: the waveform, and how it sounds."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor, nn

from vqkit.means import Mean
from vqkit.modalities.audio.discriminators import AdversarialConfig, SoundJudge
from vqkit.modalities.audio.levels import normalize
from vqkit.modalities.audio.modality import AudioModality
from vqkit.modalities.audio.spectrum import Window, frame_mask, hop_of, magnitudes, mel
from vqkit.schema import STRICT, AtLeastZero

QUIET = 1e-8  # energy of a sample, -80 dB of full scale, below which an error does not matter
FAINT = 1e-5  # magnitude, of a frame whose weights sum to 1, below which nothing is heard
BINS_PER_BAND = 4  # or the lowest bands would hold none


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class SpectralConfig:
    """Errors of the waveform and of spectrograms, weighted."""

    type: Literal["spectral"] = "spectral"
    waveform: AtLeastZero = 1.0
    """Weight of the mean absolute error of samples."""
    sdr: AtLeastZero = 0.0
    """Weight of the error's energy in bels, 10 dB, below that of the recording: every recording
    counts alike, however quiet."""
    stft: AtLeastZero = 0.1
    """Weight of the error of logarithms of spectrograms."""
    mel: AtLeastZero = 0.1
    """Weight of the error of logarithms of mel spectrograms."""
    windows: Annotated[tuple[Window, ...], Field(min_length=1)] = (128, 512, 2048)
    """Samples of a frame of each spectrogram; frames begin a quarter of that apart."""
    bands: Annotated[int, Field(ge=1)] = 80
    """Most mel bands; windows with few frequencies have a quarter as many."""
    adversarial: AdversarialConfig | None = None
    """Discriminators, to sound sharper at low rates at the cost of SI-SDR. null: there are none."""

    def build(self, sample_rate: int, channels: int = 1) -> "SpectralObjective":
        """The objective of sound of that rate, in Hz, and so many channels."""
        return SpectralObjective(self, AudioModality(sample_rate, channels))


@dataclass(frozen=True, slots=True)
class Sound:
    """One recording for each item, and no density: no likelihood is claimed.

    Attributes:
        signal: The recordings. (B, C, T)
    """

    signal: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Not for sound.

        Raises:
            ValueError: Always.
        """
        raise ValueError("sound has spectral errors and no likelihood; read si_sdr_db instead")

    def mode(self) -> Tensor:
        """The recordings, cut to the range. (B, C, T)"""
        return self.signal.clamp(-1, 1)

    def sample(self, seed: int, first: int = 0) -> Tensor:
        """The recordings; nothing is left to chance. (B, C, T)"""
        return self.mode()


class SpectralObjective(nn.Module):
    """Errors of samples, of energies, and of spectrograms with windows of several lengths.

    Every part is a mean: over real samples, over recordings, and over real frames, where each frame
    counts for the samples from it to the next. High Fidelity Neural Audio Compression, section 3.4,
    https://arxiv.org/abs/2210.13438, with logarithms, as people hear.

    Args:
        config: Weights and windows.
        modality: Of the recordings.
    """

    claims_likelihood = False

    def __init__(self, config: SpectralConfig, modality: AudioModality) -> None:
        super().__init__()
        self.config, self.modality = config, modality

    def judge(self) -> SoundJudge | None:
        """New discriminators to train beside the model; None if there shall be none."""
        config = self.config.adversarial
        return None if config is None else config.build(self.modality.channels)

    def num_outputs(self, channels: int) -> int:
        """Outputs for each sample: one for each channel."""
        return channels

    def normalize(self, x: Tensor) -> Tensor:
        """Sound as the data give it to floats in [-1, 1]. (B, C, T)"""
        return normalize(x)

    def distribution(self, outputs: Tensor) -> Sound:
        """The sound that the decoder's outputs (B, C, T) are."""
        return Sound(outputs)

    def loss(self, outputs: Tensor, x: Tensor, mask: Tensor | None = None) -> dict[str, Mean]:
        """The parts whose weight is not 0.

        Args:
            outputs: What the decoder gave. (B, C, T)
            x: What it should have given. (B, C, T)
            mask: True where a sample is real; None when all are. (B, T) bool
        """
        kind = torch.promote_types(x.dtype, outputs.dtype)  # the more exact of both
        config, x, y = self.config, x.to(kind), outputs.to(kind)
        if mask is None:
            mask = torch.ones_like(x[:, 0], dtype=torch.bool)
        real = mask.unsqueeze(1)
        x, y = x.masked_fill(~real, 0), y.masked_fill(~real, 0)
        found: dict[str, Tensor] = {}
        if config.waveform:
            found["waveform"] = config.waveform * (x - y).abs().sum()
        if config.sdr:
            found["sdr"] = config.sdr * bels(x, y, mask).sum()
        for window in config.windows if config.stft or config.mel else ():
            for name, error in self._spectral(x, y, mask, window).items():
                weighted = getattr(config, name) * hop_of(window) * error
                found[name] = found[name] + weighted if name in found else weighted
        counts = self.counts(x, mask)
        return {name: Mean(total, counts[name]) for name, total in found.items()}

    def _spectral(self, x: Tensor, y: Tensor, mask: Tensor, window: int) -> dict[str, Tensor]:
        """Sums over real frames of the errors of one spectrogram, means over its frequencies."""
        scale = 2 / window  # then the weights of a frame sum to 1
        a, b = (scale * magnitudes(signal, window) for signal in (x, y))
        real, found = frame_mask(mask, window).unsqueeze(1), dict[str, Tensor]()
        if self.config.stft:
            found["stft"] = summed_error(a, b, real)
        if self.config.mel:
            bands = min(self.config.bands, max(1, window // (2 * BINS_PER_BAND)))
            rate = self.modality.sample_rate
            found["mel"] = summed_error(mel(a, rate, bands), mel(b, rate, bands), real)
        return found

    def counts(self, x: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """What each part of the loss is a mean over. Each () int64

        Args:
            x: Items. (B, C, T)
            mask: True where a sample is real; None when all are. (B, T) bool
        """
        if mask is None:
            mask = torch.ones_like(x[:, 0], dtype=torch.bool)
        config, channels = self.config, x.shape[1]
        frames = torch.stack(
            [frame_mask(mask, window).sum() * hop_of(window) for window in config.windows]
        ).sum()
        every = {
            "waveform": mask.sum() * channels,
            "sdr": mask.any(1).sum(),
            "stft": frames * channels,
            "mel": frames * channels,
        }
        return {name: count for name, count in every.items() if getattr(config, name)}

    def observe(self, batches: Iterable[Tensor]) -> None:
        """Nothing: sound is in [-1, 1]."""

    def calibrate(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Nothing: no likelihood is claimed."""


def bels(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """How far the energy of errors is above that of recordings, in bels; less is better.

    Args:
        x: Recordings, 0 where not real. (B, C, T)
        y: Reconstructions, likewise. (B, C, T)
        mask: True where a sample is real. (B, T) bool

    Returns:
        0 where nothing is real. (B,)
    """
    least = QUIET * x.shape[1] * mask.sum(1).clamp(min=1)
    noise, signal = (each.square().flatten(1).sum(1) for each in (x - y, x))
    return ((noise + least) / (signal + least)).log10()


def summed_error(a: Tensor, b: Tensor, real: Tensor) -> Tensor:
    """The sum over frames of the mean absolute error of natural logarithms.

    Args:
        a: Magnitudes. (B, C, F, N)
        b: Magnitudes. (B, C, F, N)
        real: True where a frame is real. (B, 1, F) bool

    Returns:
        ()
    """
    errors = (a.clamp(min=FAINT).log() - b.clamp(min=FAINT).log()).abs().mean(3)
    return errors.masked_fill(~real, 0).sum()
