"""Which entry a vector gets in training, where it need not be the nearest."""

from typing import Annotated, Literal, Protocol

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit import distributed, random
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.scores import best_priced, drawn, taken
from vqkit.schema import STRICT, Divisor


class Assignment(Protocol):
    """A rule that gives vectors their entries."""

    def __call__(self, codebook: Codebook, z: Tensor, real: Tensor) -> Tensor:
        """The entry of each vector.

        Args:
            codebook: What to choose from.
            z: Projected vectors. (N, D)
            real: False at padding. (N,) bool

        Returns:
            Indices. (N,) int64
        """
        ...


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Nearest:
    """The nearest entry, as in evaluation."""

    type: Literal["nearest"] = "nearest"

    def __call__(self, codebook: Codebook, z: Tensor, real: Tensor) -> Tensor:
        """See ``Assignment``."""
        return codebook.nearest(z)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Sampled:
    """An entry drawn with probability proportional to exp(-|z - e|^2 / temperature).

    Autoregressive Image Generation using Residual Quantization, section 3.3,
    https://arxiv.org/abs/2203.01941: entries near the nearest get their share of vectors too.
    """

    type: Literal["sampled"] = "sampled"
    temperature: Divisor = 0.1
    """What squared distances are divided by; near 0 the nearest entry is drawn."""

    def __call__(self, codebook: Codebook, z: Tensor, real: Tensor) -> Tensor:
        """See ``Assignment``."""
        words = codebook.random_seed, codebook.step
        draws = random.uniform(*words, numbers(codebook.pending_seen, real))
        return drawn(z, codebook.table, draws, self.temperature)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Balanced:
    """The nearest entry after prices that make the vectors of a step use all entries alike.

    The Sinkhorn iteration for optimal transport with entropy, https://arxiv.org/abs/1306.0895,
    in which each vector goes to one entry at last, as in https://arxiv.org/abs/2006.09882.
    """

    type: Literal["balanced"] = "balanced"
    softness: Divisor = 0.05
    """How far vectors share entries while prices are found, as a part of their mean squared
    distance from all entries. With less, use is more even and takes more iterations."""
    iterations: Annotated[int, Field(ge=1)] = 5
    """Number of times that the prices are corrected."""

    def __call__(self, codebook: Codebook, z: Tensor, real: Tensor) -> Tensor:
        """See ``Assignment``."""
        table = codebook.table
        spread = ((z - table.mean(0)).square().sum(-1) * real).sum().double()
        spread, num = distributed.all_reduce(torch.stack([spread, real.sum().double()])).unbind()
        spread = spread / num.clamp(min=1) + table.var(0, correction=0).sum()
        scale = (1 / (self.softness * spread).clamp(min=1e-30)).to(table.dtype)
        prices = table.new_zeros(len(table))
        for _ in range(self.iterations):
            total = distributed.all_reduce(taken(z, table, real, scale, prices))
            wanted = num / len(table)
            prices += (wanted / total.clamp(min=1e-30)).clamp(min=1e-30).log().to(prices.dtype)
        return best_priced(z, table, scale, prices)


def numbers(pending: Tensor, real: Tensor) -> Tensor:
    """The number of each real vector of a pass among all of the step, on all ranks.

    What random numbers depend on instead of the rank: earlier passes come first, and in a pass
    lower ranks. Every rank must ask as often, and only in training.

    Args:
        pending: How many there were in earlier passes of the step; counts on. () int64
        real: False at padding. (N,) bool

    Returns:
        Numbers; where there is padding they mean nothing. (N,) int64
    """
    before, total = distributed.rows_before(real.sum())
    first = pending + before
    pending.add_(total)
    return first + real.cumsum(0) - 1


AssignmentConfig = Annotated[Balanced | Nearest | Sampled, Field(discriminator="type")]
