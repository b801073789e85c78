"""What is particular to sound, for all that shows, plays, measures and writes recordings."""

import io
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqkit.atomic import atomic_file
from vqkit.modalities.audio.levels import normalize, to_int16
from vqkit.modalities.audio.metrics import AudioMetrics, decibels, window_of
from vqkit.modalities.audio.spectrum import magnitudes, mel
from vqkit.modalities.base import Figure, Media, bit_rates

HEIGHT, WIDTH = 64, 128  # mel bands and moments of a picture
RANGE_DB = 80.0  # from dark to bright
QUIET_DB = -20.0  # of full scale: what is all below is not made brighter
FRAME_S, BANDS, PARTS = 0.032, 40, 16  # what a probe gets of a recording
PLAYED_S = 30.0  # of a recording in a page


@dataclass(frozen=True, slots=True)
class AudioModality:
    """Recordings of one or two channels.

    Attributes:
        sample_rate: Hz.
        channels: 1 or 2.
    """

    sample_rate: int
    channels: int = 1

    name, item, items, suffix = "audio", "recording", "recordings", ".wav"
    an_item, collection = "a recording", None
    dimension = "one sample of one channel"
    plain = (16, "16-bit samples")
    shows_entries = False
    by_stages = True
    figures = (
        Figure("si_sdr_db", "SI-SDR", "dB", "of each recording, the mean"),
        Figure("mel_distance_db", "Mel distance", "dB", "0 is a perfect copy"),
        Figure("kbps", "Bit rate", "kbit/s", "with codes of fixed length"),
        Figure("kbps_prior", "Bit rate under the prior", "kbit/s"),
    )
    scale = (
        "SI-SDR is how far a reconstruction's error lies below it, whatever its loudness. "
        "Distances are mean absolute differences of spectrograms, in dB. Pictures show a whole "
        "recording from left to right, its frequencies from low at the bottom to high on the mel "
        "scale, and 80 dB from dark to bright."
    )

    def size(self, shape: Sequence[int]) -> str:
        """The rate; recordings have lengths of their own."""
        return f"at {self.sample_rate / 1000:g} kHz"

    def raw_features(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """How loud each mel band is in each of 16 equal parts of recordings (B, C, T), in dB.

        What a linear classifier may get of sound: samples say nothing to it, for their signs turn
        with the phase.

        Returns:
            (B, 16 * 40)
        """
        mono = normalize(x).float().mean(1)
        window = window_of(FRAME_S, self.sample_rate)
        bands = mel(magnitudes(mono, window) * (2 / window), self.sample_rate, BANDS)
        return F.adaptive_avg_pool1d(decibels(bands).movedim(1, 2), PARTS).flatten(1)

    def metrics(self, device: torch.device | str) -> AudioMetrics:
        """What measures reconstructions."""
        return AudioMetrics(self.sample_rate, device=device)

    def rates(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Bit rates that follow from what the codes cost for each sample.

        Args:
            metrics: Figures of an evaluation.

        Returns:
            ``kbps`` and, under a prior, ``kbps_prior``, in kbit/s.
        """
        return bit_rates(metrics, "kbps", self.channels * self.sample_rate / 1000)

    def stored(self, x: Tensor) -> Tensor:
        """16-bit samples. (B, C, T) int16"""
        return to_int16(x)

    def save(self, path: Path, x: Tensor) -> None:
        """Writes one recording (C, T) as a wav file of 16 bits."""
        with atomic_file(path) as part:
            part.write_bytes(self.wav(x))

    def wav(self, x: Tensor) -> bytes:
        """One recording (C, T) as a wav file of 16 bits; equal recordings give equal bytes."""
        samples = to_int16(x).cpu().numpy().astype("<i2")
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(len(samples))
            file.setsampwidth(2)
            file.setframerate(self.sample_rate)
            file.writeframes(samples.T.tobytes())
        return buffer.getvalue()

    @torch.no_grad()
    def pictures(self, x: Tensor) -> Tensor | None:
        """Mel spectrograms in colours, the loudest of each the brightest. (B, 3, H, W) uint8"""
        from matplotlib import colormaps

        mono = normalize(x).float().mean(1)
        window = window_of(0.064, self.sample_rate)
        bands = mel(magnitudes(mono, window) * (2 / window), self.sample_rate, HEIGHT)
        power = F.adaptive_avg_pool2d(bands.square().movedim(1, 2).unsqueeze(1), (HEIGHT, WIDTH))
        level = decibels(power.sqrt().squeeze(1)).flip(1)  # low pitch at the bottom
        loudest = level.amax((1, 2), keepdim=True).clamp(min=QUIET_DB)
        bright = 1 + (level - loudest) / RANGE_DB
        table = torch.tensor(colormaps["magma"].colors)  # pyright: ignore[reportAttributeAccessIssue]
        colors = (table * 255).round().to(torch.uint8)
        return colors[(bright.clamp(0, 1) * 255).round().long().cpu()].movedim(3, 1).contiguous()

    def media(self, x: Tensor) -> Media:
        """One recording (C, T) as a wav file, its first half minute."""
        return Media("audio", "audio/wav", self.wav(x[:, : int(PLAYED_S * self.sample_rate)]))
