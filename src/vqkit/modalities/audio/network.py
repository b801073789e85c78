"""Encoder and decoder of sound: causal convolutions from samples to codes, and back."""

import math
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.nn.causal import (
    GAINS,
    Activation,
    CausalConv,
    CausalResidual,
    CausalStack,
    CausalUpsample,
    Past,
    activated,
    channels_last,
    in_chunks,
)
from vqkit.schema import STRICT

Positive = Annotated[int, Field(ge=1)]
DILATIONS = (1, 3, 9)
CHUNK = 2**20  # samples of a batch that are worked on at a time: some hundred MB
LOUD = 4.0  # gain of the first layer: sound is a quarter as large as what networks like


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CausalConfig:
    """Causal convolutions with strides, and their mirror image, as in SoundStream and EnCodec."""

    type: Literal["causal"] = "causal"
    patch: Positive = 1
    """Samples that the first layer takes at a time, and the last one gives. More make the layers
    near the waveform, the most expensive ones, so many times cheaper."""
    strides: tuple[Annotated[int, Field(ge=2)], ...] = (2, 4, 5, 8)
    """By what the layers after the first shorten time, those nearest to the waveform first. One
    code stands for patch times their product samples."""
    hidden: Positive = 32
    """Channels nearest to the waveform; twice as many after each stride."""
    most: Positive = 512
    """Most channels anywhere."""
    units: Annotated[int, Field(ge=0)] = 1
    """Residual units before each stride, with dilations 1, 3, 9 in turn."""
    depth: Annotated[int, Field(ge=0)] = 2
    """Residual units at the rate of the codes, likewise."""
    kernel_size: Positive = 7
    """Inputs that the filters of the first and last layers see, at least."""
    dim: Positive = 128
    """Length D of the vectors that are quantized."""
    delay: Annotated[int, Field(ge=0)] = 0
    """So many hops a code waits for, after the one it stands for: it sounds better, and is heard
    later."""
    activation: Activation = "elu"
    """What is before each convolution. silu takes a quarter of elu's time on a CPU, snake twice as
    long."""

    @property
    def hop(self) -> int:
        """Samples that one code stands for."""
        return self.patch * math.prod(self.strides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before each stride, and after the last."""
        return tuple(min(self.hidden * 2**i, self.most) for i in range(len(self.strides) + 1))

    def residuals(self, channels: int, num: int) -> list[nn.Module]:
        """So many residual units."""
        hidden = -(-channels // 2)
        return [
            CausalResidual(
                channels,
                hidden,
                dilation=DILATIONS[i % len(DILATIONS)],
                activation=self.activation,
            )
            for i in range(num)
        ]

    def encoder(self, channels: int) -> "AudioEncoder":
        """From sound of so many channels (B, C, T) to features (B, D, T / hop)."""
        widths, act, gain = self.widths, self.activation, GAINS[self.activation]
        kernel = max(self.kernel_size, 2 * self.patch)
        first = CausalConv(channels, widths[0], kernel, stride=self.patch, gain=LOUD)
        layers: list[nn.Module] = [first]
        for stride, (width, wider) in zip(self.strides, pairwise(widths), strict=True):
            down = CausalConv(width, wider, 2 * stride, stride=stride, gain=gain)
            layers += [*self.residuals(width, self.units), activated(act, width), down]
        layers += [*self.residuals(widths[-1], self.depth), activated(act, widths[-1])]
        layers.append(CausalConv(widths[-1], self.dim, self.kernel_size, gain=gain))
        return AudioEncoder(CausalStack(*layers), self.hop, self.delay)

    def decoder(self, channels: int) -> "AudioDecoder":
        """From vectors (B, D, L) to sound (B, C, L hop)."""
        widths, act, gain = self.widths, self.activation, GAINS[self.activation]
        layers: list[nn.Module] = [CausalConv(self.dim, widths[-1], self.kernel_size)]
        layers += self.residuals(widths[-1], self.depth)
        pairs = pairwise(reversed(widths))
        for stride, (wider, width) in zip(reversed(self.strides), pairs, strict=True):
            up = CausalUpsample(wider, width, stride, gain=gain)
            layers += [activated(act, wider), up, *self.residuals(width, self.units)]
        kernel = max(2 if self.patch > 1 else 1, -(-self.kernel_size // self.patch))
        last = CausalUpsample(widths[0], channels, self.patch, kernel_size=kernel, gain=gain / LOUD)
        stack = CausalStack(*layers, activated(act, widths[0]), last)
        return AudioDecoder(stack, channels, self.hop)


class AudioEncoder(nn.Module):
    """Causal layers from sound to what is quantized; takes sound of any length.

    High Fidelity Neural Audio Compression, section 3.1, https://arxiv.org/abs/2210.13438

    Args:
        layers: From sound (B, C, 1, T) to features (B, D, 1, T / hop).
        hop: Samples that one code stands for.
        delay: So many hops a code waits for, after the one it stands for: the first features, that
            have not seen as much, are left out.
    """

    def __init__(self, layers: CausalStack, hop: int, delay: int = 0) -> None:
        super().__init__()
        self.layers, self.hop, self.delay = layers, hop, delay

    def padded(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Whole codes are read of sound that is (T,) long."""
        return (-(-grid[0] // self.hop) * self.hop,)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """Features of sound; long ones without gradients in chunks.

        Args:
            x: Sound, or the chunk that follows what ``past`` has seen; whole codes. (B, C, T)
            past: See ``Causal``. With it, features are given as they come, the first ones that
                would be left out too; without, silence follows the end of the sound.

        Returns:
            (B, D, L)
        """
        if past is not None:
            return self.layers(channels_last(x), past).squeeze(2)
        x = F.pad(x, (0, self.delay * self.hop))
        size = chunk_of(len(x)) // self.hop * self.hop
        if torch.is_grad_enabled() or not 0 < size < x.shape[2]:
            z = self.layers(channels_last(x)).squeeze(2)
        else:
            z = in_chunks(self, x, size)
        return z[..., self.delay :]


class AudioDecoder(nn.Module):
    """Causal layers from quantized vectors to sound.

    Args:
        layers: From vectors (B, D, 1, L) to sound (B, C, 1, L hop).
        channels: Number C of channels.
        hop: Samples that one code stands for.
    """

    def __init__(self, layers: CausalStack, channels: int, hop: int) -> None:
        super().__init__()
        self.layers, self.channels, self.hop = layers, channels, hop

    def forward(self, z_q: Tensor, past: Past | None = None) -> Tensor:
        """Sound of vectors; long ones without gradients in chunks.

        Args:
            z_q: Vectors, or the chunk that follows what ``past`` has seen. (B, D, L)
            past: See ``Causal``.

        Returns:
            (B, C, L hop)
        """
        if not z_q.shape[2]:
            return z_q.new_zeros(len(z_q), self.channels, 0)
        size = chunk_of(len(z_q)) // self.hop
        if past is None and not torch.is_grad_enabled() and 0 < size < z_q.shape[2]:
            return in_chunks(self, z_q, size)
        return self.layers(channels_last(z_q), past).squeeze(2)


def chunk_of(num_items: int) -> int:
    """How many samples of each of so many items are worked on at a time, where that is a choice."""
    return CHUNK // num_items
