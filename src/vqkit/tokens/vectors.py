"""The vectors on both sides of the quantizers, level by level."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor

from vqkit.codes import Level

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE

Side = Literal["z_e", "z_q"]
"""What the encoder gave, or the entries that it became."""


@dataclass(frozen=True, slots=True, eq=False)
class LevelVectors:
    """What one level makes of a batch.

    Attributes:
        z_e: What is quantized. (B, *grid, D)
        z_q: What it becomes. (B, *grid, D)
        mask: True where a vector is real; None when all are. (B, *grid) bool
        codes: The integers in between; of codes of several scales the grid is another.
    """

    z_e: Tensor
    z_q: Tensor
    mask: Tensor | None
    codes: Level

    def side(self, which: Side) -> Tensor:
        """The vectors of one side, 0 wherever nothing is real. (B, *grid, D)"""
        vectors = self.z_e if which == "z_e" else self.z_q
        return vectors if self.mask is None else vectors * self.mask.unsqueeze(-1)


@torch.no_grad()
def level_vectors(model: "VQVAE", x: Tensor, mask: Tensor | None = None) -> Iterator[LevelVectors]:
    """What each level makes of a batch, the coarsest first.

    Args:
        model: The tokenizer.
        x: Items as the data give them. (B, C, *grid)
        mask: True where x is real; None when all is. (B, *grid) bool
    """
    for level, quantizer in enumerate(model.quantizers):
        z_e, real = model.inputs(x, mask, level=level)
        indices = quantizer.encode(z_e, real)
        own = quantizer.code_mask(real)
        codes = Level(indices, quantizer.codebook_sizes, quantizer.structure, own)
        yield LevelVectors(z_e, quantizer.decode(indices), real, codes)
