"""Which vectors take the places of dead entries."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqkit import distributed, random

DEAD_AFTER_HITS = 8  # unused, while uniform use would have given so many hits
MAX_NOMINEES = 64  # the most entries that one step revives


class Nominees(nn.Module):
    """The winners so far of a step's race for the places of dead entries; never saved.

    Args:
        size: Number of entries K.
        dim: Length D of each vector.

    Attributes:
        keys: When each nominee arrived; infinite for an empty place. (M,) float64
        errors: Its mean squared error against its entry. (M,)
        vectors: The nominees. (M, D)
    """

    keys: Tensor
    errors: Tensor
    vectors: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        num = min(size, MAX_NOMINEES)
        keys = torch.full((num,), torch.inf, dtype=torch.float64)
        self.register_buffer("keys", keys, persistent=False)
        self.register_buffer("errors", torch.zeros(num), persistent=False)
        self.register_buffer("vectors", torch.zeros(num, dim), persistent=False)

    def clear(self) -> None:
        """Empties every place."""
        self.keys.fill_(torch.inf)
        self.errors.zero_()
        self.vectors.zero_()


@dataclass(frozen=True, slots=True)
class Replacements:
    """What revival moves.

    Attributes:
        rows: The entries that were unused for longest. (M,) int64
        accepted: Whether each is replaced. (M,) bool
        vectors: By what. (M, D)
    """

    rows: Tensor
    accepted: Tensor
    vectors: Tensor


def nominate(
    nominees: Nominees,
    vectors: Tensor,
    errors: Tensor,
    real: Tensor | None,
    seed: Tensor,
    step: Tensor,
    total: Tensor,
) -> None:
    """Lets vectors race: exponential waiting times with the error as the rate.

    The first M to arrive are M draws without replacement with probability proportional to error.
    The time of a vector depends on (seed, step, its number among the real vectors of the step), not
    on the rank.

    Args:
        nominees: The winners so far; changed in place.
        vectors: This rank's. (N, D)
        errors: At least 0, each. (N,)
        real: False at padding; None when there is none. (N,) bool
        seed: Seed of the codebook. () int64
        step: Number of commits so far. () int64
        total: Number of real vectors of all ranks in earlier forward passes of the step; those of
            this are added in place. () int64
    """
    counts = distributed.all_gather(_num_real(errors, real))
    first = total + counts[: distributed.rank()].sum()
    total.add_(counts.sum())
    real = torch.ones_like(errors, dtype=torch.bool) if real is None else real
    keys = -random.uniform(seed, step, first + real.cumsum(0) - 1).log() / errors
    keys.masked_fill_(~real, torch.inf)
    best = torch.cat([nominees.keys, keys]).topk(len(nominees.keys), largest=False, sorted=True)
    nominees.keys.copy_(best.values)
    for kept, new in ((nominees.errors, errors), (nominees.vectors, vectors)):
        kept.copy_(torch.cat([kept, new.to(kept.dtype)])[best.indices])


def _num_real(errors: Tensor, real: Tensor | None) -> Tensor:
    """Number of real vectors. () int64"""
    if real is None:
        return torch.full((), len(errors), dtype=torch.int64, device=errors.device)
    return real.sum()


def replacements(
    nominees: Nominees, entries: Tensor, average_counts: Tensor, unused_for: Tensor
) -> Replacements:
    """Pairs the entries that were unused for longest with the first nominees of all ranks.

    An entry is dead when it was unused while uniform use would have given it 8 hits. A dead one
    that had been in use may only have been unlucky, so it stays where its place is worth more
    than the new one: without it each of its vectors would move to the next live entry, at a cost
    of its share of all vectors times the squared gap; the nominee saves its own error for at most
    the share of uniform use, 1 / K.

    Args:
        nominees: This rank's winners.
        entries: The codebook. (K, D)
        average_counts: Running average of the use of each entry. (K,)
        unused_for: Number of vectors quantized since each entry was used. (K,) int64
    """
    size, num = len(entries), len(nominees.keys)
    parts = [nominees.keys.unsqueeze(-1), nominees.errors.unsqueeze(-1), nominees.vectors]
    joined = distributed.all_gather(torch.cat([part.double() for part in parts], dim=-1))
    joined = joined.flatten(0, 1)
    first = joined[:, 0].topk(num, largest=False, sorted=True)
    joined = joined[first.indices]

    dead = unused_for >= DEAD_AFTER_HITS * size
    longest = unused_for * size - torch.arange(size, device=entries.device)  # no ties
    rows = longest.topk(num).indices
    centered = entries - entries.mean(0)
    norms = centered.square().mean(-1)
    products = centered[rows] @ centered.T / entries.shape[-1]
    gaps = (norms[rows].unsqueeze(-1) + norms - 2 * products).clamp(min=0)
    gaps = gaps.masked_fill(dead, torch.inf).amin(-1)
    share = average_counts[rows] / average_counts.sum()
    cost = torch.where(share > 0, share * gaps, 0)
    accepted = dead[rows] & (first.values < torch.inf) & (cost * size <= joined[:, 1])
    return Replacements(rows, accepted, joined[:, 2:].to(entries.dtype))
