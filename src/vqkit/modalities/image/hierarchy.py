"""Convolutional networks of several levels of codes."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from vqkit.modalities.image.first_weights import keep_variance
from vqkit.modalities.image.network import (
    ACTIVATIONS,
    ConvConfig,
    ConvDecoder,
    ConvFeatures,
    doubling,
    halving,
    residual_stack,
)
from vqkit.nn.dropout import noise_uniforms


class LevelsEncoder(nn.Module):
    """Images to the features of each level: each coarser one is made of the next finer one.

    Generating Diverse High-Fidelity Images with VQ-VAE-2, section 3.1 and figure 2a,
    https://arxiv.org/abs/1906.00446

    Args:
        channels: Channels C of the images.
        config: Widths, depth and levels.
    """

    def __init__(self, channels: int, config: ConvConfig) -> None:
        super().__init__()
        self.finest = ConvFeatures(channels, config)
        self.coarser = nn.ModuleList(Coarser(config) for _ in range(config.levels - 1))
        self.project = nn.Conv2d(config.hidden, config.dim, 1)
        keep_variance(self)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Images to features.

        Args:
            x: Images. (B, C, H, W)

        Returns:
            The vectors of the coarsest level, (B, D, h, w), and the features of each finer one, to
            be joined with what the levels above become, (B, hidden, h, w) each.

        Raises:
            ValueError: If H or W is not a multiple of the coarsest stride, or C is another.
        """
        features = [self.finest(x)]
        for coarser in self.coarser:
            features.append(coarser(features[-1]))
        *finer, coarsest = features
        return (self.project(coarsest), *reversed(finer))


class Coarser(nn.Module):
    """Features to those of the next coarser level: strided convolutions, then residual blocks.

    Args:
        config: Widths and depth.
    """

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        steps = range(config.level_downsampling.bit_length() - 1)
        self.down = nn.ModuleList(halving(config.hidden, config.hidden) for _ in steps)
        self.residual = residual_stack(config)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, hidden, h, w), their grid smaller by ``level_downsampling`` afterwards."""
        for convolution in self.down:
            x = self.activation(convolution(x))
        return self.residual(x)


class LevelsDecoder(nn.Module):
    """The vectors of all levels, brought to the finest grid and joined, to numbers for each pixel.

    In training, of some items it sees the coarsest levels alone, any number of them, the others
    being 0; so zeros stand for what is not known afterwards, too.

    Args:
        outputs: Numbers O for each pixel, as many as the objective asks for.
        config: Widths, depth and levels.
    """

    def __init__(self, outputs: int, config: ConvConfig) -> None:
        super().__init__()
        factors = (stride // config.strides[-1] for stride in config.strides[:-1])
        self.up = nn.ModuleList(Finer(factor, config) for factor in factors)
        self.decoder = ConvDecoder(outputs, config)
        self.level_dropout = config.level_dropout
        keep_variance(self)

    def forward(self, *z_q: Tensor) -> Tensor:
        """Vectors of each level, coarsest first, to what the objective reads.

        Args:
            z_q: Each (B, D, h, w)

        Returns:
            (B, O, H, W)
        """
        if self.training and self.level_dropout > 0:
            z_q = hide_finer(z_q, self.level_dropout)
        *coarser, finest = z_q
        raised = [finer(z) for finer, z in zip(self.up, coarser, strict=True)]
        return self.decoder(torch.cat([*raised, finest], dim=1))


def hide_finer(z_q: Sequence[Tensor], share: float) -> tuple[Tensor, ...]:
    """Vectors of levels, those of the finer ones 0 for some of the items.

    Which, and how many of the coarsest levels stay, is a pure function of what dropout depends on
    too; outside of ``noise`` nothing is hidden.

    Args:
        z_q: Coarsest level first. Each (B, D, h, w)
        share: The part of the items.

    Returns:
        Each (B, D, h, w)
    """
    u = noise_uniforms(len(z_q[0]), 2)
    if u is None:
        return tuple(z_q)
    num_kept = 1 + (u[:, 1] * (len(z_q) - 1)).long()
    num_kept = torch.where(u[:, 0] < share, num_kept, len(z_q)).to(z_q[0].device)
    kept = [(number < num_kept)[:, None, None, None] for number in range(len(z_q))]
    return tuple(torch.where(stays, z, 0) for stays, z in zip(kept, z_q, strict=True))


class Finer(nn.Module):
    """Vectors to vectors on a finer grid, by transposed convolutions.

    Args:
        factor: How much finer, a power of two.
        config: Length of the vectors, and what is between convolutions.
    """

    def __init__(self, factor: int, config: ConvConfig) -> None:
        super().__init__()
        self.activation = ACTIVATIONS[config.activation]
        steps = range(factor.bit_length() - 1)
        self.up = nn.ModuleList(doubling(config.dim, config.dim) for _ in steps)

    def forward(self, z_q: Tensor) -> Tensor:
        """Vectors (B, D, h, w) to vectors (B, D, h * factor, w * factor)."""
        first, *others = self.up
        z_q = first(z_q)
        for convolution in others:
            z_q = convolution(self.activation(z_q))
        return z_q


class Join(nn.Module):
    """What a level quantizes: its features, and what the levels above decode to on its grid.

    Generating Diverse High-Fidelity Images with VQ-VAE-2, algorithm 1, line 3: the encoder of the
    finer level is given the quantized coarser ones, https://arxiv.org/abs/1906.00446

    Args:
        config: Whose ``levels`` are those above.
    """

    def __init__(self, config: ConvConfig) -> None:
        super().__init__()
        above = replace(config, downsampling=config.level_downsampling, level_dropout=0)
        self.above = above.decoder(config.dim)
        self.project = nn.Conv2d(config.hidden + config.dim, config.dim, 1)
        keep_variance(self)

    def forward(self, features: Tensor, *z_q: Tensor) -> Tensor:
        """Features and the vectors of the levels above to vectors.

        Args:
            features: Of this level. (B, hidden, h, w)
            z_q: Of each level above, coarsest first. Each (B, D, ...)

        Returns:
            What is quantized. (B, D, h, w)
        """
        return self.project(torch.cat([features, self.above(*z_q)], dim=1))
