"""Encoder and decoder of clips: causal convolutions from frames to codes, and back."""

import math
from itertools import pairwise
from typing import Annotated, ClassVar, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.nn.causal import GAINS, CausalStack, Past, activated, in_chunks
from vqkit.nn.causal3d import CausalConv3d, CausalResidual3d, CausalUpsample3d, channels_last
from vqkit.schema import STRICT

Positive = Annotated[int, Field(ge=1)]
CHUNK = 2**20  # pixels of a batch that are worked on at a time: some hundred MB
PIXELS = 2.0  # gain of the first layer: pixels are half as large as what networks like


@dataclass(frozen=True, kw_only=True, config=STRICT)
class CausalVideoConfig:
    """Causal 3-D convolutions with strides of their own in time and space, and their mirror."""

    type: Literal["causal"] = "causal"
    patch: Positive = 2
    """Height and width in pixels of what the first layer takes at a time, and the last one gives.
    More make the layers near the pixels, the most expensive ones, its square times cheaper."""
    strides: tuple[tuple[Positive, Positive], ...] = ((2, 2), (2, 2))
    """By what each layer after the first shortens time, and by what height and width, those nearest
    to the pixels first. [1, 2] leaves time as it is, [2, 1] the frames."""
    hidden: Positive = 32
    """Channels nearest to the pixels; twice as many after each stride."""
    most: Positive = 256
    """Most channels anywhere."""
    units: Annotated[int, Field(ge=0)] = 1
    """Residual units before each stride."""
    depth: Annotated[int, Field(ge=0)] = 2
    """Residual units at the rate of the codes."""
    dim: Positive = 64
    """Length D of the vectors that are quantized."""
    activation: Literal["elu", "silu"] = "silu"
    """What is before each convolution."""

    @property
    def hop(self) -> int:
        """Frames that one code stands for, but in the first frame, which has codes of its own."""
        return math.prod(time for time, _ in self.strides)

    @property
    def side(self) -> int:
        """Height and width in pixels of what one code stands for."""
        return self.patch * math.prod(space for _, space in self.strides)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels before each stride, and after the last."""
        return tuple(min(self.hidden * 2**i, self.most) for i in range(len(self.strides) + 1))

    def residuals(self, channels: int, num: int) -> list[nn.Module]:
        """So many residual units."""
        half = -(-channels // 2)
        return [CausalResidual3d(channels, half, activation=self.activation) for _ in range(num)]

    def encoder(self, channels: int) -> "VideoEncoder":
        """From clips of so many channels (B, C, T, H, W) to features (B, D, *code grid)."""
        widths, act, gain = self.widths, self.activation, GAINS[self.activation]
        reach, patch = max(3, 2 * self.patch), self.patch
        kernel, stride = (3, reach, reach), (1, patch, patch)
        layers: list[nn.Module] = [
            CausalConv3d(channels, widths[0], kernel, stride=stride, gain=PIXELS)
        ]
        for (time, space), (width, wider) in zip(self.strides, pairwise(widths), strict=True):
            reach, stride = reach_of(space), (time, space, space)
            kernel = (reach_of(time), reach, reach)
            down = CausalConv3d(width, wider, kernel, stride=stride, gain=gain)
            layers += [*self.residuals(width, self.units), activated(act, width), down]
        layers += [*self.residuals(widths[-1], self.depth), activated(act, widths[-1])]
        layers.append(CausalConv3d(widths[-1], self.dim, (1, 1, 1), gain=gain))
        return VideoEncoder(CausalStack(*layers), self.hop, self.side)

    def decoder(self, channels: int) -> "VideoDecoder":
        """From vectors (B, D, *code grid) to clips (B, C, T, H, W)."""
        widths, act, gain = self.widths, self.activation, GAINS[self.activation]
        layers: list[nn.Module] = [CausalConv3d(self.dim, widths[-1], (3, 3, 3))]
        layers += self.residuals(widths[-1], self.depth)
        pairs = pairwise(reversed(widths))
        for (time, space), (wider, width) in zip(reversed(self.strides), pairs, strict=True):
            up = CausalUpsample3d(
                wider, width, (time, space, space), kernel_size=(2, 3, 3), gain=gain
            )
            layers += [activated(act, wider), up, *self.residuals(width, self.units)]
        stride = (1, self.patch, self.patch)
        last = CausalUpsample3d(
            widths[0], channels, stride, kernel_size=(3, 3, 3), gain=gain / PIXELS
        )
        stack = CausalStack(*layers, activated(act, widths[0]), last)
        return VideoDecoder(stack, channels, self.hop, self.side)


class VideoEncoder(nn.Module):
    """Causal layers from clips to what is quantized; takes clips of any length and size.

    The first frame has codes of its own, and so has each hop of frames after it: a still image is a
    clip of one frame. Where the last hop is not whole, the last frame stays.

    Args:
        layers: From clips (B, C, 1 + k hop, H, W) to features (B, D, 1 + k, H / side, W / side).
        hop: Frames that one code stands for, after the first.
        side: Height and width in pixels of what one code stands for.

    Attributes:
        first: Frames that the first code stands for.
        delay: Hops that a code waits for: none.
    """

    reads_mask: ClassVar = True
    holds_last: ClassVar = True

    def __init__(self, layers: CausalStack, hop: int, side: int) -> None:
        super().__init__()
        self.layers, self.hop, self.side = layers, hop, side
        self.first, self.delay = 1, 0

    def padded(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """Whole codes are read of a clip that is (T, H, W) large."""
        time, *sides = grid
        whole = [-(-length // self.side) * self.side for length in sides]
        return (1 + -(-(time - 1) // self.hop) * self.hop, *whole)

    def code_mask(self, mask: Tensor) -> Tensor:
        """Which codes stand for anything real of padded clips: (B, T, H, W) to (B, *code grid)."""
        cells = (self.hop, self.side, self.side)
        led = F.pad(mask.unsqueeze(1).float(), (0, 0, 0, 0, self.hop - 1, 0))
        return F.max_pool3d(led, cells, cells).squeeze(1) > 0

    def spread(self, cells: Tensor) -> Tensor:
        """What there is for each code, at all that it stands for.

        Args:
            cells: (B, *code grid)

        Returns:
            (B, T, H, W)
        """
        for axis, length in enumerate((self.hop, self.side, self.side), start=1):
            cells = cells.repeat_interleave(length, axis)
        return cells[:, self.hop - 1 :]

    def forward(self, x: Tensor, past: Past | None = None, mask: Tensor | None = None) -> Tensor:
        """Features of clips; long ones without gradients in chunks.

        Args:
            x: Clips, or the chunk that follows what ``past`` has seen; whole codes. (B, C, T, H, W)
            past: See ``Causal``.
            mask: True where x is real; None when all is. (B, T, H, W) bool

        Returns:
            (B, D, *code grid)
        """
        x = channels_last(x if mask is None else held(x, mask))
        if past is not None:
            return self.layers(x, past)
        size = chunk_of(x.shape[0] * x.shape[3] * x.shape[4], self.hop) * self.hop
        if torch.is_grad_enabled() or x.shape[2] <= 1 + size:
            return self.layers(x)
        return in_chunks(self.layers, x, size, first=1 + size)


class VideoDecoder(nn.Module):
    """Causal layers from quantized vectors to clips.

    Args:
        layers: From vectors (B, D, 1 + k, h, w) to clips (B, C, 1 + k hop, h side, w side).
        channels: Number C of channels.
        hop: Frames that one code stands for, after the first.
        side: Height and width in pixels of what one code stands for.
    """

    def __init__(self, layers: CausalStack, channels: int, hop: int, side: int) -> None:
        super().__init__()
        self.layers, self.channels, self.hop, self.side = layers, channels, hop, side

    def forward(self, z_q: Tensor, past: Past | None = None) -> Tensor:
        """Clips of vectors; long ones without gradients in chunks.

        Args:
            z_q: Vectors, or the chunk that follows what ``past`` has seen. (B, D, L, h, w)
            past: See ``Causal``.

        Returns:
            (B, C, T, H, W)
        """
        num, _, length, *grid = z_q.shape
        height, width = (self.side * places for places in grid)
        if not length:
            return z_q.new_zeros(num, self.channels, 0, height, width)
        z_q = channels_last(z_q)
        size = chunk_of(num * height * width, self.hop)
        if past is not None or torch.is_grad_enabled() or length <= size:
            return self.layers(z_q, past)
        return in_chunks(self.layers, z_q, size)


def reach_of(stride: int) -> int:
    """Inputs that a filter of such a stride sees along an axis."""
    return 3 if stride == 1 else 2 * stride


def chunk_of(frame: int, hop: int) -> int:
    """How many hops are worked on at a time where that is a choice, at least 1.

    Args:
        frame: Pixels of a frame of all clips of a batch.
        hop: Frames of a hop.
    """
    return max(1, CHUNK // max(1, frame * hop))


def held(x: Tensor, mask: Tensor) -> Tensor:
    """Clips whose last real frame stays to their end.

    Args:
        x: (B, C, T, H, W)
        mask: True where x is real. (B, T, H, W) bool
    """
    times = torch.arange(x.shape[2], device=x.device)
    last = (times * mask.flatten(2).any(2)).amax(1, keepdim=True)
    shown = torch.minimum(times, last)[:, None, :, None, None]  # (B, 1, T, 1, 1)
    return x.gather(2, shown.expand_as(x))
