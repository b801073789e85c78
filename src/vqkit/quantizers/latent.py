"""Latent quantization: each coordinate has a few learned values."""

import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.means import Mean
from vqkit.quantizers import mixed_radix
from vqkit.quantizers.base import Quantized, Quantizer, mask_out, real_rows, squared_errors
from vqkit.quantizers.kmeans import check_vectors, thinned
from vqkit.quantizers.learned import at_least_zero
from vqkit.schema import STRICT, AtLeastZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LatentConfig:
    """A few learned values for each coordinate."""

    type: Literal["latent"] = "latent"
    levels: Annotated[tuple[Annotated[int, Field(ge=2)], ...], Field(min_length=1)] = (8, 5, 5, 5)
    """Number of values of each coordinate; their product is the number of codes."""
    commitment: AtLeastZero = 0.25
    """Weight of the loss that pulls the encoder toward the values."""

    def build(self, dim: int) -> "LatentQuantizer":
        """The quantizer for vectors of length ``dim``."""
        if dim != len(self.levels):
            raise ValueError(
                f"{len(self.levels)} levels need vectors of length {len(self.levels)}, they have "
                f"{dim}; give as many levels, or put a projection around (type=projected, "
                f"dim={len(self.levels)})"
            )
        return LatentQuantizer(self.levels, commitment=self.commitment)


class LatentQuantizer(Quantizer):
    """Replaces each coordinate by the nearest of its own few values, which gradients move.

    Disentanglement via Latent Quantization, section 3.1, https://arxiv.org/abs/2305.18378

    Args:
        levels: Number of values of each coordinate; there are as many as coordinates.
        commitment: Weight of the loss that pulls the encoder toward the values.

    Attributes:
        values: Those of the first coordinate, then of the next, and so on; evenly from -1/2 to 1/2
            at first. (sum of levels,)
    """

    def __init__(self, levels: Sequence[int], *, commitment: float = 0.25) -> None:
        levels = mixed_radix.check_levels(levels)
        super().__init__(len(levels))
        self.levels = levels
        self.commitment = at_least_zero(commitment)
        self.values = nn.Parameter(torch.cat([torch.linspace(-0.5, 0.5, n) for n in levels]))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.levels),)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.checked(z_e, mask)
        indices = self._indices(z_e, mask)
        z_q = self._entries(indices)
        values = Mean.over(squared_errors(z_q, z_e.detach().to(z_q.dtype)), mask)
        commitment = Mean.over(squared_errors(z_e.to(z_q.dtype), z_q.detach()), mask)
        return Quantized(
            z_q=self.passed(z_e, z_q, mask),
            indices=indices,
            objective=Mean(values.total + self.commitment * commitment.total, values.count),
            terms={"values": values, "commitment": commitment},
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._indices(self.checked(z_e, mask), mask)

    def _indices(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """Which code each checked vector is. (..., 1) int64"""
        digits = [
            (x.unsqueeze(-1).to(values.dtype) - values).abs().argmin(-1)
            for x, values in zip(
                z_e.detach().unbind(-1), self.values.split(self.levels), strict=True
            )
        ]
        joined = mixed_radix.join(torch.stack(digits, -1), self.levels)
        return mask_out(joined.unsqueeze(-1), mask)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self._entries(indices)

    def _entries(self, indices: Tensor) -> Tensor:
        """What indices stand for, unchecked: a check waits for the device. (..., 1) -> (..., D)"""
        digits = mixed_radix.split(indices.squeeze(-1), self.levels).unbind(-1)
        pairs = zip(self.values.split(self.levels), digits, strict=True)
        return torch.stack([values[digit] for values, digit in pairs], -1)

    @torch.no_grad()
    def initialize(self, z_e: Tensor, mask: Tensor | None = None, *, seed: int) -> None:
        """Puts the values of each coordinate at its quantiles, the middles of equal shares.

        Raises:
            ValueError: If there are no vectors, or one is not finite.
        """
        z_e = real_rows(self.checked(z_e, mask), mask)
        check_vectors(z_e)
        columns = thinned(z_e, seed).to(self.values.dtype).unbind(-1)
        for values, x in zip(self.values.split(self.levels), columns, strict=True):
            shares = (torch.arange(len(values), device=x.device) + 0.5) / len(values)
            values.copy_(x.quantile(shares.to(x.dtype)))
