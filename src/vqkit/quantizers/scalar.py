"""Finite scalar quantization: each coordinate is rounded, nothing is learned."""

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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FSQConfig:
    """Each coordinate rounded to a few values; no codebook is learned."""

    type: Literal["fsq"] = "fsq"
    levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (8, 5, 5, 5)
    """Number of values of each coordinate; their product is the number of codes."""

    def build(self, dim: int) -> "FiniteScalarQuantizer":
        """The quantizer for vectors of length ``dim``."""
        if dim != len(self.levels):
            raise ValueError(
                f"{len(self.levels)} levels need vectors of length {len(self.levels)}, they have "
                f"{dim}; give as many levels, or put a projection around (type=projected, "
                f"dim={len(self.levels)})"
            )
        return FiniteScalarQuantizer(self.levels)


class FiniteScalarQuantizer(Quantizer):
    """Squashes each coordinate to a range and rounds it to one of a few values.

    Finite Scalar Quantization: VQ-VAE Made Simple, section 3.1, https://arxiv.org/abs/2309.15505.
    The product of the levels is the size of a codebook that is never written down; no loss is
    needed, and every code is in reach.

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
        # Steps from the lowest value to 0; not saved, because the levels say it.
        self.register_buffer("widths", torch.tensor(levels) // 2, persistent=False)

    @property
    def sizes(self) -> Tensor:
        """The levels. (D,) int64"""
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
        steps = self._steps(z_e)
        digits = self._digits(steps, z_e, mask)
        widths = self._long(self.widths, steps)
        # As decode does it, where whole numbers become float32 in a model of float64 too.
        z_q = ((digits - widths).float() / widths).view(z_e.shape).to(steps.dtype)
        objective = Mean(z_q.new_zeros(()), num_real(z_q, mask))
        if self.passes_gradient:
            z_q = exactly(z_q, (steps / widths).view(z_e.shape))
        return Quantized(z_q, self._indices(digits, z_e), objective, {})

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        z_e = self.checked(z_e, mask)
        return self._indices(self._digits(self._steps(z_e), z_e, mask), z_e)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        digits = mixed_radix.split(indices.squeeze(-1), self.levels)
        return (digits - self.widths) / self.widths

    def squash(self, z_e: Tensor) -> Tensor:
        steps = self._bound(_in_long_rows(z_e))
        return (steps / self._long(self.widths, steps)).view(z_e.shape)

    def _steps(self, z_e: Tensor) -> Tensor:
        """Vectors (..., D) in units of the step between two values, within their range. (M, L)"""
        z = _in_long_rows(z_e)
        if self.squashes:
            return self._bound(z)
        sizes, widths = self._long(self.sizes, z), self._long(self.widths, z)
        return (z * widths).clamp(min=-widths, max=sizes - 1 - widths)

    def _bound(self, z: Tensor) -> Tensor:
        """The paper's function f: a smooth squashing into the range of the values. (M, L)"""
        half = (self.sizes - 1).to(z.dtype) * ((1 + SLACK) / 2)
        offset = 0.5 * (1 - self.sizes % 2).to(z.dtype)
        shift = self._long(torch.atanh(offset / half), z)
        return torch.tanh(z + shift) * self._long(half, z) - self._long(offset, z)

    def _digits(self, steps: Tensor, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """Which value each coordinate takes, in steps; 0 at padding. Whole numbers. (M, L)"""
        highest = self._long(self.sizes - 1, steps).to(steps.dtype)
        digits = steps.detach().nan_to_num().round() + self._long(self.widths, steps)
        # With a thousand levels the slack is more than half a step.
        digits = digits.clamp(min=0).minimum(highest)
        return mask_out(digits.view(z_e.shape), mask).view(steps.shape)

    def _indices(self, digits: Tensor, z_e: Tensor) -> Tensor:
        """Which code each vector is. (..., 1) int64"""
        return mixed_radix.join(digits.long().view(z_e.shape), self.levels).unsqueeze(-1)

    def _long(self, numbers: Tensor, x: Tensor) -> Tensor:
        """Numbers for the D coordinates, again and again along the last axis of x. (L,)"""
        return numbers.repeat(x.shape[-1] // self.dim)


def _in_long_rows(z_e: Tensor) -> Tensor:
    """Vectors (..., D) of float32 at least, several in a row, because long loops are fast. (M, L)

    L is a multiple of D.
    """
    num, dim = z_e.shape[:-1].numel(), z_e.shape[-1]
    together = 1 if torch.compiler.is_compiling() else math.gcd(num, VECTORS_IN_A_ROW)
    rows = z_e.reshape(num // together, together * dim)
    return rows.to(torch.promote_types(z_e.dtype, torch.float32))
