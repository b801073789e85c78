"""Convolutional encoder and decoder of images."""

from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import AfterValidator, Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.nn.residual import ResidualStack
from vqkit.schema import STRICT

ACTIVATIONS = {"relu": F.relu, "silu": F.silu}


def power_of_two(value: int) -> int:
    """The value itself.

    Raises:
        ValueError: If it is not a power of two.
    """
    if value < 1 or value & (value - 1):
        raise ValueError("must be a power of two: 1, 2, 4, 8, ...")
    return value


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ConvConfig:
    """Strided convolutions and residual blocks, and their mirror image."""

    type: Literal["conv"] = "conv"
    hidden: Annotated[int, Field(ge=2)] = 128
    """Channels of the convolutions; the one nearest to the pixels has half of them."""
    residual_hidden: Annotated[int, Field(ge=1)] = 32
    """Channels inside the residual blocks."""
    num_residual: Annotated[int, Field(ge=0)] = 2
    """Number of residual blocks of the encoder, and of the decoder."""
    downsampling: Annotated[int, AfterValidator(power_of_two)] = 4
    """Pixels along each side of the square that one code stands for; a power of two. Of several
    levels, that of the finest."""
    levels: Annotated[int, Field(ge=1)] = 1
    """Number of levels of codes: 1 is a plain VQ-VAE, 2 or more are a VQ-VAE-2."""
    level_downsampling: Annotated[int, AfterValidator(power_of_two), Field(ge=2)] = 2
    """How much coarser each further level's grid is, along each side; a power of two."""
    level_dropout: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Of several levels: the part of the items whose finer levels are hidden from the decoder in
    training, so that the coarser ones alone tell as much as they can."""
    dim: Annotated[int, Field(ge=1)] = 64
    """Length D of the vectors that are quantized."""
    activation: Literal["relu", "silu"] = "relu"
    """What is between convolutions: relu as in the paper, silu costs more and learns faster."""

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels along the side of the square that a code stands for, of each level."""
        coarser = range(self.levels - 1, -1, -1)
        return tuple(self.downsampling * self.level_downsampling**steps for steps in coarser)

    def encoder(self, channels: int) -> nn.Module:
        """The encoder of images of so many channels, to the features of each level."""
        if self.levels == 1:
            return ConvEncoder(channels, self)
        from vqkit.modalities.image.hierarchy import LevelsEncoder

        return LevelsEncoder(channels, self)

    def top_down(self) -> tuple[nn.Module, ...]:
        """For each level but the coarsest, what joins it with the levels above."""
        from vqkit.modalities.image.hierarchy import Join

        above = (replace(self, levels=number) for number in range(1, self.levels))
        return tuple(Join(config) for config in above)

    def decoder(self, outputs: int) -> nn.Module:
        """The decoder to so many numbers for each pixel, from the vectors of each level."""
        if self.levels == 1:
            return ConvDecoder(outputs, self)
        from vqkit.modalities.image.hierarchy import LevelsDecoder

        return LevelsDecoder(outputs, self)


class ConvFeatures(nn.Module):
    """Images to the features of each square of pixels.

    Neural Discrete Representation Learning, section 4.1, https://arxiv.org/abs/1711.00937, with the
    widths and the third convolution of the authors' later example.

    Args:
        channels: Channels C of the images.
        config: Widths and depth.
    """

    def __init__(self, channels: int, config: ConvConfig) -> None:
        super().__init__()
        self.channels, self.levels, self.stride = channels, config.levels, config.strides[0]
        self.activation = ACTIVATIONS[config.activation]
        widths = [channels, *scale_widths(config)]
        self.down = nn.ModuleList(halving(before, after) for before, after in pairwise(widths))
        self.mix = nn.Conv2d(widths[-1], config.hidden, 3, padding=1)
        self.residual = residual_stack(config)

    def forward(self, x: Tensor) -> Tensor:
        """Images to features.

        Args:
            x: Images. (B, C, H, W)

        Returns:
            Features, h and w smaller than H and W by ``downsampling``. (B, hidden, h, w)

        Raises:
            ValueError: If H or W is not a multiple of the coarsest stride, or C is another.
        """
        self.check_shape(x)
        for convolution in [*self.down, self.mix]:
            x = self.activation(convolution(x))
        return self.residual(x)

    def check_shape(self, x: Tensor) -> None:
        """Raises ValueError unless ``x`` is a batch of images that the network fits."""
        if x.dim() != 4 or x.shape[1] != self.channels:
            shape = tuple(x.shape)
            raise ValueError(f"x has shape {shape}; give images (B, {self.channels}, H, W)")
        height, width = x.shape[2:]
        if min(height, width) < self.stride or height % self.stride or width % self.stride:
            code = "one code" if self.levels == 1 else "one code of the coarsest level"
            lower = "downsampling" if self.levels == 1 else "downsampling or levels"
            raise ValueError(
                f"the images are {height} x {width} pixels, but {code} stands for {self.stride} x "
                f"{self.stride}; resize or pad them to multiples of {self.stride}, or lower {lower}"
            )


class ConvEncoder(ConvFeatures):
    """Images to one vector for each square of pixels.

    Args:
        channels: Channels C of the images.
        config: Widths and depth.
    """

    def __init__(self, channels: int, config: ConvConfig) -> None:
        super().__init__(channels, config)
        self.project = nn.Conv2d(config.hidden, config.dim, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to vectors (B, D, h, w); otherwise as ``ConvFeatures``."""
        return self.project(super().forward(x))


class ConvDecoder(nn.Module):
    """The mirror image of ``ConvEncoder``: vectors to numbers for each pixel.

    Args:
        outputs: Numbers O for each pixel, as many as the objective asks for.
        config: Widths and depth. It reads vectors of length ``dim`` for each of its ``levels``,
            joined.
    """

    def __init__(self, outputs: int, config: ConvConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        widths = [config.hidden, *reversed(scale_widths(config)[:-1])]
        self.mix = nn.Conv2d(config.dim * config.levels, config.hidden, 3, padding=1)
        self.residual = residual_stack(config)
        self.up = nn.ModuleList(doubling(before, after) for before, after in pairwise(widths))
        if config.downsampling == 1:
            self.project = nn.Conv2d(config.hidden, outputs, 3, padding=1)
        else:
            self.project = doubling(widths[-1], outputs)

    def forward(self, z_q: Tensor) -> Tensor:
        """Vectors (B, levels * D, h, w) to what the objective reads, (B, O, H, W)."""
        h = self.residual(self.mix(z_q))
        for convolution in self.up:
            h = self.activation(convolution(h))
        return self.project(h)


def halving(before: int, after: int) -> nn.Conv2d:
    """A convolution that halves height and width."""
    return nn.Conv2d(before, after, 4, stride=2, padding=1)


def doubling(before: int, after: int) -> nn.ConvTranspose2d:
    """A transposed convolution that doubles height and width."""
    return nn.ConvTranspose2d(before, after, 4, stride=2, padding=1)


def residual_stack(config: ConvConfig) -> ResidualStack:
    """The residual blocks that encoder and decoder have alike."""
    return ResidualStack(
        config.hidden,
        config.residual_hidden,
        config.num_residual,
        activation=ACTIVATIONS[config.activation],
    )


def scale_widths(config: ConvConfig) -> list[int]:
    """Channels after each halving, finest first: half of them, then all."""
    halvings = config.downsampling.bit_length() - 1
    return [config.hidden // 2, *[config.hidden] * (halvings - 1)][:halvings]
