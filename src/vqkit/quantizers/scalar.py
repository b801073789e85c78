"""Finite scalar quantization: each coordinate is rounded, nothing is learned."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.means import Mean
from vqkit.quantizers import mixed_radix
from vqkit.quantizers.base import Quantized, Quantizer, mask_out, num_real
from vqkit.quantizers.gradients import exactly
from vqkit.schema import STRICT

MOST_LEVELS = 2**20
SLACK = 1e-3  # the outermost values are reached by finite numbers
VECTORS_IN_A_ROW = 64
EXACT = 2**24  # whole numbers up to it are exact in float32, and so are their sums


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FSQConfig:
    """Each coordinate rounded to a few values; no codebook is learned."""

    type: Literal["fsq"] = "fsq"
    levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (8, 5, 5, 5)
    """Number of values of each coordinate; their product is the number of codes."""

    def build(self, dim: int) -> "FiniteScalarQuantizer":
        """The quantizer for vectors of length ``dim``."""
        mixed_radix.check_dim(self.levels, dim)
        return FiniteScalarQuantizer(self.levels)


class FiniteScalarQuantizer(Quantizer):
    """Squashes each coordinate to a range and rounds it to one of a few values.

    Finite Scalar Quantization: VQ-VAE Made Simple, section 3.1, https://arxiv.org/abs/2309.15505.
    The product of the levels is the size of a codebook that is never written down; no loss is
    needed, and every code is in reach. So of two levels each has half the line here: the paper's
    shift, by which 0 stays 0, would put their border at -3.8.

    Args:
        levels: Number of values of each coordinate; there are as many as coordinates.
    """

    widths: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        levels = mixed_radix.check_levels(levels)
        if max(levels) > MOST_LEVELS:
            raise ValueError(
                f"a level is {max(levels)}; give at most {MOST_LEVELS}: float32 does not tell more "
                "values apart"
            )
        super().__init__(len(levels))
        self.levels = levels
        # Steps from the lowest value to 0; not saved, because the levels say it. Whole numbers in
        # the precision of the values: float32, or float64 in a model that was converted to it.
        widths = torch.tensor([level // 2 for level in levels], dtype=torch.float32)
        self.register_buffer("widths", widths, persistent=False)

    @property
    def sizes(self) -> Tensor:
        """The levels, whole numbers. (D,)"""
        return self.widths.new_tensor(self.levels)

    @property
    def residual_scale(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What rounding leaves at most, half a step, beside what the values reach. (D,)"""
        return 1 / (self.sizes - 1).clamp(min=2)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.levels),)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.checked(z_e, mask)
        z = _in_long_rows(z_e)
        table = self._table(z)
        steps = self._steps(z, table)
        digits = self._digits(steps, table, z_e, mask)
        # As decode does it, in the precision of the values, whatever the vectors are.
        whole, widths = digits - table.widths, table.widths.to(self.widths.dtype)
        z_q = (whole.to(widths.dtype) / widths).view(z_e.shape)
        objective = Mean(z_q.new_zeros(()), num_real(z_q, mask))
        if self.passes_gradient:
            z_q = exactly(z_q, (steps / table.widths).view(z_e.shape))
        return Quantized(z_q, self._indices(digits, table, z_e), objective, {})

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        z_e = self.checked(z_e, mask)
        z = _in_long_rows(z_e)
        table = self._table(z)
        return self._indices(self._digits(self._steps(z, table), table, z_e, mask), table, z_e)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        digits = mixed_radix.split(indices.squeeze(-1), self.levels)
        return (digits.to(self.widths.dtype) - self.widths) / self.widths

    def squash(self, z_e: Tensor) -> Tensor:
        z = _in_long_rows(z_e)
        table = self._table(z)
        return (_bounded(z, table) / table.widths).view(z_e.shape)

    def _table(self, z: Tensor) -> "_Table":
        """What the coordinates are rounded by, in rows as long as those of z. (M, L)"""
        highest = (self.sizes - 1).to(z.dtype)
        half = highest * ((1 + SLACK) / 2)
        offset = 0.5 * (1 - self.sizes % 2).to(z.dtype)
        counts = mixed_radix.basis(self.levels, z.device).to(z.dtype)
        shift = torch.atanh(offset / half) * (highest > 1)
        rows = half, offset, shift, self.widths.to(z.dtype), highest, counts
        return _Table(*torch.stack(rows).repeat(1, z.shape[-1] // self.dim).unbind())

    def _steps(self, z: Tensor, table: "_Table") -> Tensor:
        """Vectors in units of the step between two values, within their range. (M, L)"""
        if self.squashes:
            return _bounded(z, table)
        return (z * table.widths).clamp(min=-table.widths, max=table.highest - table.widths)

    def _digits(self, steps: Tensor, table: "_Table", z_e: Tensor, mask: Tensor | None) -> Tensor:
        """Which value each coordinate takes, in steps; 0 at padding. Whole numbers. (M, L)"""
        digits = steps.detach().nan_to_num().round() + table.widths
        # With a thousand levels the slack is more than half a step.
        digits = digits.clamp(min=0).minimum(table.highest)
        return mask_out(digits.view(z_e.shape), mask).view(steps.shape)

    def _indices(self, digits: Tensor, table: "_Table", z_e: Tensor) -> Tensor:
        """Which code each vector is. (..., 1) int64"""
        if math.prod(self.levels) <= EXACT:
            return (digits * table.counts).view(z_e.shape).sum(-1, keepdim=True).long()
        return mixed_radix.join(digits.long().view(z_e.shape), self.levels).unsqueeze(-1)


@dataclasses.dataclass(frozen=True, slots=True)
class _Table:
    """Numbers for the D coordinates, again and again. Each (L,)

    Attributes:
        half: Half the range that coordinates are squashed to, in steps.
        offset: How far below 0 its middle is.
        shift: What makes 0 stay 0; of two levels it is their border.
        widths: Steps from the lowest value to 0.
        highest: Steps from the lowest value to the highest.
        counts: What a step counts in the index.
    """

    half: Tensor
    offset: Tensor
    shift: Tensor
    widths: Tensor
    highest: Tensor
    counts: Tensor


def _bounded(z: Tensor, table: _Table) -> Tensor:
    """The paper's function f: a smooth squashing into the range of the values. (M, L)"""
    return torch.tanh(z + table.shift) * table.half - table.offset


def _in_long_rows(z_e: Tensor) -> Tensor:
    """Vectors (..., D) of float32 at least, several in a row, because long loops are fast. (M, L)

    L is a multiple of D.
    """
    num, dim = z_e.shape[:-1].numel(), z_e.shape[-1]
    together = 1 if torch.compiler.is_compiling() else math.gcd(num, VECTORS_IN_A_ROW)
    rows = z_e.reshape(num // together, together * dim)
    return rows.to(torch.promote_types(z_e.dtype, torch.float32))
