"""Codes: what leaves the autoencoder, and all that a prior, a token set or a codec sees."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, Self

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor

from vqkit.schema import STRICT

Structure = Literal["flat", "residual", "product", "selective"]


@config_dataclass(frozen=True, config=STRICT)
class LevelSpec:
    """The shape of one level of codes, without the codes."""

    grid: tuple[Annotated[int, Field(ge=1)], ...]
    """Lengths of the grid axes, without batch; empty for plain vectors."""
    codebook_sizes: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    """Number of entries of each of the Q codebooks."""
    structure: Structure = "flat"
    """What the Q axis means: independent codes, stages of a residual, parts of a product, or first
    whether a position has a code, and then the code."""

    @property
    def num_tokens(self) -> int:
        """Integers per item: positions times codebooks."""
        return math.prod(self.grid) * len(self.codebook_sizes)

    @property
    def bits(self) -> float:
        """Bits per item when every code is equally likely."""
        return math.prod(self.grid) * sum(math.log2(size) for size in self.codebook_sizes)


@dataclass(frozen=True, slots=True)
class Level:
    """The codes of one level.

    Attributes:
        indices: One integer per codebook; 0 where masked. (B, *grid, Q) int64
        codebook_sizes: Number of entries of each of the Q codebooks.
        structure: What the Q axis means.
        mask: True where a position is real; None when all are. (B, *grid) bool
    """

    indices: Tensor
    codebook_sizes: tuple[int, ...]
    structure: Structure = "flat"
    mask: Tensor | None = None

    def __post_init__(self) -> None:
        if self.indices.dim() < 2 or self.indices.shape[-1] != len(self.codebook_sizes):
            shape, sizes = tuple(self.indices.shape), self.codebook_sizes
            raise ValueError(f"indices have shape {shape}; make the last axis {len(sizes)} long")
        if self.mask is not None and self.mask.shape != self.indices.shape[:-1]:
            shapes = f"{tuple(self.mask.shape)}, the positions {tuple(self.indices.shape[:-1])}"
            raise ValueError(f"mask has shape {shapes}; give it one element per position")

    def real(self, codebook: int) -> Tensor | None:
        """Where the integers of one codebook stand for something; None for everywhere.

        Masked positions do not, nor do the codes of positions that a selective quantizer left out.

        Returns:
            (B, *grid) bool
        """
        if self.structure != "selective" or codebook == 0:
            return self.mask
        return self.indices[..., 0] > 0  # 0 where masked, too

    @property
    def spec(self) -> LevelSpec:
        """The shape of this level."""
        return LevelSpec(tuple(self.indices.shape[1:-1]), self.codebook_sizes, self.structure)


@dataclass(frozen=True, slots=True)
class Codes:
    """The codes of a batch of items.

    Attributes:
        levels: Coarsest first; one for a plain VQ-VAE.
    """

    levels: tuple[Level, ...]

    def __len__(self) -> int:
        return len(self.levels[0].indices)

    @property
    def specs(self) -> tuple[LevelSpec, ...]:
        """The shapes of the levels."""
        return tuple(level.spec for level in self.levels)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Codes whose tensors are ``function`` of these."""
        return type(self)(
            tuple(
                Level(
                    function(level.indices),
                    level.codebook_sizes,
                    level.structure,
                    None if level.mask is None else function(level.mask),
                )
                for level in self.levels
            )
        )

    def __getitem__(self, items: slice) -> Self:
        return self.map(lambda tensor: tensor[items])

    def to(self, device: torch.device | str) -> Self:
        """The same codes on a device."""
        return self.map(lambda tensor: tensor.to(device))

    @classmethod
    def cat(cls, parts: Sequence["Codes"]) -> "Codes":
        """The items of several batches of equal shape as one batch.

        Raises:
            ValueError: If there are no parts, or their levels differ.
        """
        if not parts or any(part.specs != parts[0].specs for part in parts):
            raise ValueError(
                "the parts have different levels; join codes of one tokenizer and size"
            )
        levels = []
        for group in zip(*(part.levels for part in parts), strict=True):
            masks = None
            if any(level.mask is not None for level in group):
                masks = torch.cat([_mask_of(level) for level in group])
            indices = torch.cat([level.indices for level in group])
            levels.append(Level(indices, group[0].codebook_sizes, group[0].structure, masks))
        return cls(tuple(levels))

    def flat(self) -> Tensor:
        """All integers of an item in a row: levels coarsest first, each in raster order, Q last.

        Returns:
            Indices, L the sum of ``num_tokens`` over the levels. (B, L) int64
        """
        return torch.cat([level.indices.flatten(1) for level in self.levels], dim=1)

    def flat_mask(self) -> Tensor | None:
        """Which integers of ``flat`` are real; None when all are. (B, L) bool"""
        if all(level.mask is None for level in self.levels):
            return None
        parts = [
            _mask_of(level).unsqueeze(-1).expand_as(level.indices).flatten(1)
            for level in self.levels
        ]
        return torch.cat(parts, dim=1)

    @classmethod
    def from_flat(
        cls, flat: Tensor, specs: Sequence[LevelSpec], mask: Tensor | None = None
    ) -> "Codes":
        """The inverse of ``flat``.

        Args:
            flat: Indices. (B, L) int64
            specs: The shapes of the levels, coarsest first.
            mask: What ``flat_mask`` gave. (B, L) bool

        Raises:
            ValueError: If the rows are not as long as the levels need.
        """
        lengths = [spec.num_tokens for spec in specs]
        if flat.dim() != 2 or flat.shape[1] != sum(lengths):
            shape = tuple(flat.shape)
            raise ValueError(f"flat has shape {shape}; the levels need rows of {sum(lengths)}")
        masks = [None] * len(lengths) if mask is None else mask.split(lengths, dim=1)
        levels = []
        for part, real, spec in zip(flat.split(lengths, dim=1), masks, specs, strict=True):
            shape = (len(flat), *spec.grid, len(spec.codebook_sizes))
            position = None if real is None else real.reshape(shape)[..., 0]
            levels.append(Level(part.reshape(shape), spec.codebook_sizes, spec.structure, position))
        return cls(tuple(levels))


def _mask_of(level: Level) -> Tensor:
    """The mask of a level, all True where it has none. (B, *grid) bool"""
    if level.mask is not None:
        return level.mask
    return torch.ones(level.indices.shape[:-1], dtype=torch.bool, device=level.indices.device)
