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

SLACK = 1e-3  # the outermost values are reached by finite numbers


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
        super().__init__(len(levels))
        self.levels = levels
        # Steps from the lowest value to 0; not saved, because the levels say it.
        self.register_buffer("widths", torch.tensor(levels) // 2, persistent=False)

    @property
    def residual_scale(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """What rounding leaves at most, half a step, beside what the values reach. (D,)"""
        return 1 / (self.widths.new_tensor(self.levels) - 1).clamp(min=2)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.levels),)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        steps = self._steps(self.checked(z_e, mask))
        indices = self._indices(steps, mask)
        z_q = self._entries(indices).to(steps.dtype)
        objective = Mean(z_q.new_zeros(()), num_real(z_q, mask))
        if self.passes_gradient:
            z_q = exactly(z_q, steps / self.widths)
        return Quantized(z_q=z_q, indices=indices, objective=objective, terms={})

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._indices(self._steps(self.checked(z_e, mask)), mask)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self._entries(indices)

    def _entries(self, indices: Tensor) -> Tensor:
        """What indices stand for, unchecked: a check waits for the device. (..., 1) -> (..., D)"""
        digits = mixed_radix.split(indices.squeeze(-1), self.levels)
        return (digits - self.widths) / self.widths

    def squash(self, z_e: Tensor) -> Tensor:
        return self._bound(z_e) / self.widths

    def _steps(self, z_e: Tensor) -> Tensor:
        """Vectors in units of the step between two values, within their range. (..., D)"""
        if self.squashes:
            return self._bound(z_e)
        z_e = z_e.to(torch.promote_types(z_e.dtype, torch.float32))
        sizes = self.widths.new_tensor(self.levels)
        return (z_e * self.widths).clamp(min=-self.widths, max=sizes - 1 - self.widths)

    def _bound(self, z_e: Tensor) -> Tensor:
        """The paper's function f: a smooth squashing into the range of the values. (..., D)"""
        z_e = z_e.to(torch.promote_types(z_e.dtype, torch.float32))
        half = (torch.tensor(self.levels, dtype=z_e.dtype, device=z_e.device) - 1) * (1 + SLACK) / 2
        offset = 0.5 * (1 - torch.tensor(self.levels, device=z_e.device) % 2)
        return torch.tanh(z_e + torch.atanh(offset / half)) * half - offset

    def _indices(self, steps: Tensor, mask: Tensor | None) -> Tensor:
        """Which code each vector is, in steps (..., D). (..., 1) int64"""
        digits = steps.detach().nan_to_num().round().long() + self.widths
        # With a thousand levels the slack is more than half a step.
        digits = digits.clamp(min=0).minimum(self.widths.new_tensor(self.levels) - 1)
        return mask_out(mixed_radix.join(digits, self.levels).unsqueeze(-1), mask)
