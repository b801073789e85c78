"""What tells decoded sound from real: discriminators of several periods and resolutions.

All are causal in time, so that what is behind the end of a recording changes nothing.
"""

import math
from itertools import pairwise
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.modalities.audio.spectrum import Window, frame_mask, magnitudes
from vqkit.nn.adversarial import Heard
from vqkit.nn.causal import CausalConv
from vqkit.schema import STRICT, AtLeastZero

SLOPE = 0.1  # of the leaky units
STRIDES = (3, 3, 3, 1)
FAINT = 1e-5


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdversarialConfig:
    """Discriminators that are trained beside the model, and what the decoder learns from them."""

    weight: AtLeastZero = 0.5
    """How long the gradient of seeming real is, beside that of all other parts of the loss."""
    features: AtLeastZero = 2.0
    """Weight of the error of the discriminators' features, beside that of their verdicts."""
    periods: tuple[Annotated[int, Field(ge=1)], ...] = (2, 3, 5, 7, 11)
    """Each of these discriminators sees every so many-th sample as a signal of its own."""
    windows: tuple[Window, ...] = (256, 512, 1024)
    """Each of these discriminators sees a spectrogram with frames of so many samples."""
    width: Annotated[int, Field(ge=1)] = 16
    """Channels of their first layers."""

    def build(self, channels: int) -> "SoundJudge":
        """New discriminators of sound of so many channels."""
        periods = [PeriodJudge(channels, period, self.width) for period in self.periods]
        windows = [SpectrumJudge(channels, window, self.width) for window in self.windows]
        return SoundJudge([*periods, *windows], self)


class SoundJudge(nn.Module):
    """Several discriminators.

    Args:
        judges: Each from sound and its mask to what it heard.
        config: Weights.
    """

    def __init__(self, judges: list[nn.Module], config: AdversarialConfig) -> None:
        super().__init__()
        if not judges:
            raise ValueError("there are no discriminators; give periods or windows")
        self.judges, self.config = nn.ModuleList(judges), config

    def forward(self, x: Tensor, mask: Tensor) -> list[Heard]:
        """What each heard.

        Args:
            x: Sound, 0 where it is not real. (B, C, T)
            mask: True where it is. (B, T) bool
        """
        return [judge(x, mask) for judge in self.judges]


class PeriodJudge(nn.Module):
    """Sees every p-th sample as a signal of its own, p of them.

    HiFi-GAN, section 2.3, https://arxiv.org/abs/2010.05646

    Args:
        channels: Of the sound.
        period: p.
        width: Channels of the first layer; each further one has twice as many.
    """

    def __init__(self, channels: int, period: int, width: int) -> None:
        super().__init__()
        self.period = period
        widths = [channels, *(width * 2**i for i in range(len(STRIDES)))]
        self.layers = nn.ModuleList(
            CausalConv(one, two, 5, stride=stride, gain=math.sqrt(2))
            for (one, two), stride in zip(pairwise(widths), STRIDES, strict=True)
        )
        self.last = CausalConv(widths[-1], 1, 3)

    def forward(self, x: Tensor, mask: Tensor) -> Heard:
        """What it makes of sound (B, C, T) with a mask (B, T)."""
        lacking = -x.shape[2] % (self.period * math.prod(STRIDES))
        rows = F.pad(x, (0, lacking)).unflatten(2, (-1, self.period)).movedim(3, 1)
        real = F.pad(mask, (0, lacking)).unflatten(1, (-1, self.period)).movedim(2, 1)
        num, h = len(x), rows.flatten(0, 1).unsqueeze(2)
        h = h.contiguous(memory_format=torch.channels_last)
        layers, masks = [], []
        for layer, stride in zip([*self.layers, self.last], [*STRIDES, 1], strict=True):
            h, real = layer(h), real[..., ::stride]
            h = h if layer is self.last else F.leaky_relu(h, SLOPE)
            layers.append(h.squeeze(2).unflatten(0, (num, self.period)))
            masks.append(real)
        return Heard(tuple(layers), tuple(masks))


class SpectrumJudge(nn.Module):
    """Sees a spectrogram, in dB.

    UnivNet, section 2.2, https://arxiv.org/abs/2106.07889

    Args:
        channels: Of the sound.
        window: Samples of a frame.
        width: Channels of all layers.
    """

    def __init__(self, channels: int, window: int, width: int) -> None:
        super().__init__()
        self.window = window
        widths = [channels, *[width] * 4]
        self.layers = nn.ModuleList(
            nn.utils.parametrizations.weight_norm(
                nn.Conv2d(one, two, (3, 9), stride=(1, 1 if i == 0 else 2), padding=(0, 4))
            )
            for i, (one, two) in enumerate(pairwise(widths))
        )
        self.last = nn.utils.parametrizations.weight_norm(nn.Conv2d(width, 1, 3, padding=(0, 1)))

    def forward(self, x: Tensor, mask: Tensor) -> Heard:
        """What it makes of sound (B, C, T) with a mask (B, T)."""
        loud = magnitudes(x, self.window) * (2 / self.window)
        h, layers = loud.clamp(min=FAINT).log10() / 2 + 1, []  # about from -1 to 1
        for layer in [*self.layers, self.last]:
            h = layer(F.pad(h, (0, 0, 2, 0)))  # frames before, none after
            h = h if layer is self.last else F.leaky_relu(h, SLOPE)
            layers.append(h.permute(0, 3, 1, 2))
        real = frame_mask(mask, self.window).unsqueeze(1)
        return Heard(tuple(layers), (real,) * len(layers))
