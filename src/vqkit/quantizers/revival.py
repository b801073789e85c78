"""Which vectors take the places of dead entries."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit import distributed, random

DEAD_AFTER = 8.0  # hits of uniform use
MAX_DRAWN = 64  # the most entries that one step revives
ROWS = 4_096  # vectors that are compared, or added up, at a time
STEP_BITS = 40  # no step has 2^40 vectors


@dataclass(frozen=True, slots=True)
class Candidates:
    """The vectors of one forward pass, on one rank.

    Attributes:
        vectors: What may become an entry. (N, D)
        errors: Mean squared error of each against its entry. (N,)
        real: False at padding, and where a vector is not finite. (N,) bool
    """

    vectors: Tensor
    errors: Tensor
    real: Tensor


@dataclass(frozen=True, slots=True)
class Replacements:
    """What revival moves, the same on every rank.

    Attributes:
        rows: The entries that were unused for longest. (M,) int64
        accepted: Whether each is replaced. (M,) bool
        vectors: By what. (M, D)
    """

    rows: Tensor
    accepted: Tensor
    vectors: Tensor


@dataclass(frozen=True, slots=True)
class Drawn:
    """Vectors in the order in which they were drawn.

    Attributes:
        chances: What was compared, descending; -inf for what is no vector. (M,) float64
        vectors: What was drawn. (M, D)
    """

    chances: Tensor
    vectors: Tensor

    def best(self, num: int) -> "Drawn":
        """The first ``num`` of vectors from several draws."""
        first = self.chances.topk(min(num, len(self.chances)))
        return Drawn(first.values, self.vectors[first.indices])


def is_dead(unused_for: Tensor, dead_after: float) -> Tensor:
    """Whether uniform use would have given each entry so many hits while it had none.

    Args:
        unused_for: Number of vectors quantized since each entry was used. (K,) int64
        dead_after: Number of hits.

    Returns:
        (K,) bool
    """
    return unused_for >= dead_after * len(unused_for)


def replacements(
    passes: Sequence[Candidates],
    entries: Tensor,
    average_counts: Tensor,
    unused_for: Tensor,
    words: tuple[int, Tensor],
    dead_after: float = DEAD_AFTER,
    num: int = MAX_DRAWN,
) -> Replacements:
    """Pairs the entries that were unused for longest with vectors drawn by their error.

    A dead entry that had been in use may only have been unlucky, so it stays where the error would
    grow more without it than it would shrink with the vector in its place.

    Args:
        passes: What this rank saw since the last commit; every rank has as many.
        entries: The codebook. (K, D)
        average_counts: Running average of the use of each entry. (K,)
        unused_for: Number of vectors quantized since each entry was used. (K,) int64
        words: Seed and step, on which the draws depend.
        dead_after: See ``is_dead``.
        num: The most entries to replace; the first pairs do not depend on how many follow.
    """
    size = len(entries)
    drawn = draw(passes, min(num, size), words)
    longest = unused_for * size - torch.arange(size, device=entries.device)
    rows = longest.topk(len(drawn.chances)).indices  # no ties, so that all ranks choose alike
    dead = is_dead(unused_for, dead_after)
    shares = shares_of_use(average_counts, unused_for, dead_after)
    costs = costs_of_removal(entries, rows, dead, shares)
    worth = costs <= gains(passes, entries, drawn.vectors)
    accepted = dead[rows] & (drawn.chances > -torch.inf) & worth
    return Replacements(rows, accepted, drawn.vectors.to(entries.dtype))


def draw(passes: Sequence[Candidates], num: int, words: tuple[int, Tensor]) -> Drawn:
    """Draws vectors of all ranks without replacement, with probability proportional to error.

    The winners of a race in which the error is the rate: the largest log(u) / error, algorithm
    A-Res of https://doi.org/10.1016/j.ipl.2005.11.003. Each u depends on the seed, the step and
    the vector's number among the real ones of all ranks and passes, so the winners do not depend
    on how the vectors are spread over ranks and passes.

    Args:
        passes: What this rank saw since the last commit; every rank has as many.
        num: Number of draws M.
        words: Seed and step, on which the draws depend.
    """
    drawn = [
        _race(one, num, words, first)
        for one, first in zip(passes, _first_numbers(passes), strict=True)
    ]
    together = drawn[0] if len(drawn) == 1 else joined(drawn).best(num)
    if not distributed.is_distributed():
        return together
    empty = Drawn(
        together.chances.new_full((num,), -torch.inf),
        together.vectors.new_zeros(num, together.vectors.shape[-1]),
    )
    mine = joined([together, empty]).best(num)  # as many on every rank
    # One collective; float64 holds a float32 exactly.
    rows = torch.cat([mine.chances[:, None], mine.vectors], dim=1)
    rows = distributed.all_gather(rows).flatten(0, 1)
    return Drawn(rows[:, 0], rows[:, 1:].to(mine.vectors.dtype)).best(num)


def joined(parts: Sequence[Drawn]) -> Drawn:
    """Several draws as one, in no order."""
    return Drawn(
        torch.cat([part.chances for part in parts]),
        torch.cat([part.vectors for part in parts]),
    )


def _first_numbers(passes: Sequence[Candidates]) -> list[Tensor]:
    """The number of the first real vector of each pass of this rank.

    Earlier passes come first, and in a pass lower ranks.
    """
    if len(passes) == 1 and not distributed.is_distributed():
        return [passes[0].errors.new_zeros((), dtype=torch.int64)]
    counts = torch.stack([one.real.sum() for one in passes])
    before, total = distributed.rows_before(counts)
    return list((total.cumsum(0) - total + before).unbind())


def _race(one: Candidates, num: int, words: tuple[int, Tensor], first: Tensor) -> Drawn:
    """The winners of one pass; fewer than M where N is less."""
    seed, step = words
    index = one.real.cumsum(0) - 1
    number = index + ((step << STEP_BITS) + first)
    chances = random.uniform(seed, number).log_().div_(one.errors)
    chances.masked_fill_(~one.real, -torch.inf)
    return Drawn(chances, one.vectors).best(num)


def gains(passes: Sequence[Candidates], entries: Tensor, drawn: Tensor) -> Tensor:
    """By how much the mean squared error of all vectors would shrink with a new entry, times K.

    Estimated from the vectors of the step: each that is nearer to the new entry than to its own
    saves the difference. There may be fewer of them than entries, so K more that save nothing are
    counted with them.

    Args:
        passes: What this rank saw since the last commit; every rank has as many.
        entries: The codebook. (K, D)
        drawn: The new entries, each taken alone, the same on every rank. (M, D)

    Returns:
        Means over the coordinates. (M,)
    """
    size, dim = entries.shape
    center = entries.mean(0)
    new = drawn.to(entries.dtype) - center
    total = new.new_zeros(len(new), dtype=torch.float64)
    num = total.new_zeros(())
    for one in passes:
        for rows, errors, real in _blocks(one):
            centered = rows.to(entries.dtype) - center
            # error - |z - v|^2 / D; in place, so that autocast leaves it alone.
            own = errors.to(entries.dtype) - centered.square().sum(-1) / dim
            # Padding and what is no number save nothing.
            own = own.masked_fill_(~real, -torch.inf)
            saved = own.unsqueeze(1) - new.square().sum(-1) / dim
            saved.addmm_(centered, new.T, alpha=2 / dim)
            total += saved.nan_to_num_(0, posinf=0).clamp_(min=0).sum(0)
            num += real.sum()
    reduced = distributed.all_reduce(torch.cat([total, num.unsqueeze(0)]))
    total, num = reduced[:-1], reduced[-1]
    return (total * size / (num + size)).to(entries.dtype)


def _blocks(one: Candidates) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Vectors, errors and reality of a pass, few rows at a time."""
    for first in range(0, len(one.errors), ROWS):
        block = slice(first, first + ROWS)
        yield one.vectors[block], one.errors[block], one.real[block]


def shares_of_use(average_counts: Tensor, unused_for: Tensor, dead_after: float) -> Tensor:
    """How much each entry is used, by its average and by how long nobody used it.

    The average fades by steps, and would hold for long that an entry is needed which the vectors
    have left for good. So it counts as much as ``dead_after`` hits: with it as the mean of a gamma
    distribution of that shape, this is the mean given the hits that did not come (Poisson model,
    Bayesian Data Analysis, section 2.6).

    Args:
        average_counts: Running average of the use of each entry. (K,)
        unused_for: Number of vectors quantized since each entry was used. (K,) int64
        dead_after: See ``is_dead``.

    Returns:
        Shares of all vectors, times K: 1 is uniform use. (K,)
    """
    shares = average_counts / average_counts.mean()
    missed = unused_for / len(unused_for)  # hits of uniform use
    return shares / (1 + shares * missed.to(shares.dtype) / dead_after)


def costs_of_removal(entries: Tensor, rows: Tensor, dead: Tensor, shares: Tensor) -> Tensor:
    """By how much the mean squared error of all vectors would grow without an entry, times K.

    Each of its vectors would move to the next live entry: their squared gap, times the entry's
    share of all vectors (for an entry that is their mean, the cost in
    https://doi.org/10.1080/01621459.1963.10500845).

    Args:
        entries: The codebook. (K, D)
        rows: Which entries are asked for. (M,) int64
        dead: Which entries may not take over. (K,) bool
        shares: How much each entry is used, 1 for uniform use. (K,)

    Returns:
        Means over the coordinates. (M,)
    """
    centered = entries - entries.mean(0)
    norms = centered.square().sum(-1)
    # |a - b|^2 = |a|^2 + |b|^2 - 2 ab; in place, so that autocast leaves it alone.
    gaps = norms.masked_fill(dead, torch.inf).repeat(len(rows), 1)
    gaps.addmm_(centered[rows], centered.T, alpha=-2)
    itself = torch.where(dead[rows], torch.inf, -norms[rows])  # 0 away, however products round
    gaps.scatter_(1, rows.unsqueeze(1), itself.unsqueeze(1))
    nearest = (gaps.amin(-1) + norms[rows]).clamp_(min=0)
    return shares[rows] * nearest / entries.shape[-1]
