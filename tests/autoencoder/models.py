"""Small models and images for the tests of autoencoders."""

from itertools import pairwise

import torch
from torch import Tensor, nn

from vqkit.autoencoder import VQVAE
from vqkit.modalities.image import (
    ConvConfig,
    GaussianConfig,
    GaussianObjective,
    ImageModelConfig,
    ObjectiveConfig,
)
from vqkit.quantizers import (
    EMAConfig,
    EMAVectorQuantizer,
    MultiScaleResidual,
    QuantizerConfig,
    VectorQuantizer,
    VQConfig,
)

SIZE = 16


def small(
    quantizer: QuantizerConfig | None = None,
    objective: ObjectiveConfig | None = None,
    *,
    channels: int = 3,
    downsampling: int = 4,
) -> VQVAE:
    """A model whose codebook was started from data."""
    torch.manual_seed(0)
    config = ImageModelConfig(
        channels=channels,
        network=ConvConfig(hidden=8, residual_hidden=4, downsampling=downsampling, dim=4),
        quantizer=quantizer or EMAConfig(codebook_size=16),
        objective=objective or GaussianConfig(),
    )
    model = VQVAE.from_config(config)
    model.initialize([images(4, channels), images(4, channels, seed=1)], seed=0)
    return model


def images(num: int, channels: int = 3, *, size: int = SIZE, seed: int = 0) -> Tensor:
    """Images with some structure. (num, channels, size, size) uint8"""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randint(0, 256, (num, channels, 4, 4), generator=generator)
    fine = torch.randint(-20, 21, (num, channels, size, size), generator=generator)
    coarse = coarse.repeat_interleave(size // 4, 2).repeat_interleave(size // 4, 3)
    return (coarse + fine).clamp(0, 255).to(torch.uint8)


class Pyramid(nn.Module):
    """Features at several scales, coarsest first, from grey images."""

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        widths = [1, *[4] * num_levels]
        self.scales = nn.ModuleList(
            nn.Conv2d(a, b, 4, stride=2, padding=1) for a, b in pairwise(widths)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        features = []
        for scale in self.scales:
            x = scale(x).tanh()
            features.append(x)
        return tuple(reversed(features))


class Join(nn.Module):
    """What is quantized, from features and the coarser levels; for images and their grids."""

    def __init__(self, num_coarser: int) -> None:
        super().__init__()
        self.mix = nn.Conv2d(4 * (1 + num_coarser), 4, 1)

    def forward(self, features: Tensor, *coarser: Tensor) -> Tensor:
        size = features.shape[-2:]
        resized = [nn.functional.interpolate(z, size=size) for z in coarser]
        return self.mix(torch.cat([features, *resized], dim=1))


class Merge(nn.Module):
    """A decoder that reads all levels."""

    def __init__(self, num_levels: int) -> None:
        super().__init__()
        self.join = Join(num_levels - 1)
        self.up = nn.ConvTranspose2d(4, 1, 4, stride=2, padding=1)

    def forward(self, *z_q: Tensor) -> Tensor:
        return self.up(self.join(z_q[-1], *z_q[:-1]))


def levels(num: int, *, top_down: bool = True, gradient: bool = False) -> VQVAE:
    """A model of several levels, such as VQ-VAE-2 has, for grey images."""
    torch.manual_seed(0)
    kind = VectorQuantizer if gradient else EMAVectorQuantizer
    model = VQVAE(
        Pyramid(num),
        [kind(4, 8 + level) for level in range(num)],
        Merge(num),
        GaussianObjective(),
        top_down=[Join(level) for level in range(1, num)] if top_down else (),
    )
    model.initialize([images(6, 1), images(6, 1, seed=1)], seed=0)
    return model


def built(num: int, *quantizers: QuantizerConfig, gradient: bool = False) -> VQVAE:
    """The same of a config, with levels of the same grids.

    Args:
        num: Number of levels.
        quantizers: One for each level; those of ``levels`` when there are none.
        gradient: As in ``levels``.
    """
    torch.manual_seed(0)
    kind = VQConfig if gradient else EMAConfig
    config = ImageModelConfig(
        channels=1,
        network=ConvConfig(
            hidden=8, residual_hidden=4, num_residual=1, downsampling=2, dim=4, levels=num
        ),
        quantizers=quantizers or tuple(kind(codebook_size=8 + level) for level in range(num)),
    )
    model = VQVAE.from_config(config)
    model.initialize([images(6, 1), images(6, 1, seed=1)], seed=0)
    return model


def with_scales() -> VQVAE:
    """A model of two levels, the coarse one as usual, the fine one over scales."""
    torch.manual_seed(0)
    part = EMAVectorQuantizer(4, 16)
    fine = MultiScaleResidual([part] * 3, [(1, 1), (3, 3), (8, 8)])
    layers = [EMAVectorQuantizer(4, 8), fine]
    model = VQVAE(Pyramid(2), layers, Merge(2), GaussianObjective(), top_down=[Join(1)])
    model.initialize([images(6, 1), images(6, 1, seed=1)], seed=0)
    return model
