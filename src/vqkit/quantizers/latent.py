"""Latent quantization: each coordinate has a few learned values."""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit import distributed
from vqkit.means import Mean
from vqkit.quantizers import mixed_radix
from vqkit.quantizers.base import Quantized, Quantizer, real_rows, squared_errors
from vqkit.quantizers.checks import whole_seed
from vqkit.quantizers.gathering import joined_rows
from vqkit.quantizers.kmeans import check_vectors, thinned
from vqkit.quantizers.learned import at_least_zero
from vqkit.quantizers.state import mark_started, register_start
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
        mixed_radix.check_dim(self.levels, dim)
        return LatentQuantizer(self.levels, commitment=self.commitment)


class LatentQuantizer(Quantizer):
    """Replaces each coordinate by the nearest of its own few values, which gradients move.

    Disentanglement via Latent Quantization, section 3.1, https://arxiv.org/abs/2305.18378. They
    start at the quantiles of the first vectors; the paper's start evenly spaced.

    Args:
        levels: Number of values of each coordinate; there are as many as coordinates.
        commitment: Weight of the loss that pulls the encoder toward the values.

    Attributes:
        values: Those of the first coordinate, then of the next, and so on; evenly from -1/2 to 1/2
            until they start from data. (sum of levels,)
        initialized: Whether they have, or were given as a state. () bool
    """

    is_initialized: bool = False
    initialized: Tensor

    def __init__(self, levels: Sequence[int], *, commitment: float = 0.25) -> None:
        levels = mixed_radix.check_levels(levels)
        super().__init__(len(levels))
        self.levels = levels
        self.commitment = at_least_zero(commitment)
        register_start(self)
        self.values = nn.Parameter(torch.cat([torch.linspace(-0.5, 0.5, n) for n in levels]))

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (math.prod(self.levels),)

    @property
    def is_started(self) -> bool:
        return self.is_initialized

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.checked(z_e, mask)
        if self.learns and not self.is_initialized and len(rows := joined_rows(z_e, mask)):
            self.initialize(rows, seed=0)
        digits = self._digits(z_e, mask)
        z_q = self._entries(digits)
        values = Mean.over(squared_errors(z_q, z_e.detach().to(z_q.dtype)), mask)
        commitment = Mean.over(squared_errors(z_e.to(z_q.dtype), z_q.detach()), mask)
        return Quantized(
            z_q=self.passed(z_e, z_q, mask),
            indices=mixed_radix.join_columns(digits, self.levels).unsqueeze(-1),
            objective=Mean(values.total + self.commitment * commitment.total, values.count),
            terms={"values": values, "commitment": commitment},
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        digits = self._digits(self.checked(z_e, mask), mask)
        return mixed_radix.join_columns(digits, self.levels).unsqueeze(-1)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self._entries(mixed_radix.split(indices.squeeze(-1), self.levels).unbind(-1))

    def _digits(self, z_e: Tensor, mask: Tensor | None) -> list[Tensor]:
        """Which value each coordinate of checked vectors takes; 0 at padding. Each (...) int64"""
        columns = zip(z_e.detach().unbind(-1), self.values.detach().split(self.levels), strict=True)
        digits = [nearest_value(x, values) for x, values in columns]
        return digits if mask is None else [digit.masked_fill(~mask, 0) for digit in digits]

    def _entries(self, digits: Sequence[Tensor]) -> Tensor:
        """The vectors of these values. D times (...) int64 -> (..., D)"""
        firsts = itertools.accumulate(self.levels[:-1], initial=0)
        pairs = zip(digits, firsts, strict=True)
        places = torch.stack([digit + first for digit, first in pairs], -1)
        return self.values.index_select(0, places.flatten()).view(places.shape)

    @torch.no_grad()
    def initialize(
        self, z_e: Tensor, mask: Tensor | None = None, *, seed: int, keep_started: bool = False
    ) -> None:
        """Puts the values of each coordinate at its quantiles, the middles of equal shares.

        Raises:
            ValueError: If there are no vectors, or one is not finite.
        """
        seed = whole_seed(seed)
        z_e = real_rows(self.checked(z_e, mask), mask)
        if keep_started and self.is_initialized:
            return
        check_vectors(z_e)
        columns, found = thinned(z_e, seed).to(self.values.dtype).unbind(-1), []
        for num, x in zip(self.levels, columns, strict=True):
            shares = (torch.arange(num, device=x.device) + 0.5) / num
            found.append(x.quantile(shares.to(x.dtype)))
        # Equal vectors may still give other bits on another device: the first rank's count.
        self.values.copy_(distributed.all_gather(torch.cat(found))[0])
        mark_started(self)


def nearest_value(x: Tensor, values: Tensor) -> Tensor:
    """The index of the nearest value, the lowest one on ties, without all differences.

    Args:
        x: Numbers. (...)
        values: What each may become, in any order. (n,)

    Returns:
        Indices. (...) int64
    """
    ordered, order = values.double().sort(stable=True)
    order = order[torch.searchsorted(ordered, ordered)]  # of equal values the first
    middles = (ordered[1:] + ordered[:-1]) / 2
    # A number in the middle becomes the lower value, unless the upper one has the lower index.
    below = torch.nextafter(middles, torch.full_like(middles, -torch.inf))
    middles = torch.where(order[1:] < order[:-1], below, middles)
    return order[torch.bucketize(x.double().contiguous(), middles)]
