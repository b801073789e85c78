"""Fits the entries of all codebooks of a sum at once, by least squares."""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from vqkit import distributed, random
from vqkit.quantizers.beam import beam_search
from vqkit.quantizers.kmeans import noise

MOST_ENTRIES = 2**13  # of all codebooks: the normal equations are a matrix of so many rows
RIDGE = 0.1  # vectors at 0 that every entry has besides its own: without, sums are ambiguous
NOISE = 0.3  # part of what the sums leave by which entries are moved in the first round
QUIET = 2  # rounds at the end without any


class NormalEquations:
    """What least squares has to know of vectors and their codes; batches and ranks add up.

    For one-hot codes B and vectors X, the entries E that make |X - B E|^2 smallest solve
    (B'B + ridge) E = B'X.

    Args:
        sizes: Number of entries of each codebook.
        like: Whose length, device and precision the entries have. (..., D)
    """

    def __init__(self, sizes: Sequence[int], like: Tensor) -> None:
        self.sizes, self.like = list(sizes), like
        total = sum(self.sizes)
        options = {"dtype": torch.float64, "device": like.device}
        self.pairs = torch.zeros(total, total, **options)  # how often two entries are summed
        self.sums = torch.zeros(total, like.shape[-1], **options)

    def add(self, z: Tensor, indices: Tensor) -> None:
        """Counts vectors (N, D) with their codes (N, Q) in."""
        starts = [0, *accumulate(self.sizes)]
        columns = list(zip(starts, self.sizes, indices.unbind(-1), strict=False))
        for first, size, mine in columns:
            self.sums[first : first + size].index_add_(0, mine, z.double())
            for second, other_size, other in columns:
                if second >= first:
                    counts = torch.bincount(mine * other_size + other, minlength=size * other_size)
                    block = counts.view(size, other_size).double()
                    self.pairs[first : first + size, second : second + other_size] += block

    def reduce(self) -> None:
        """Adds up all ranks; every rank must call it."""
        distributed.all_reduce(self.pairs)
        distributed.all_reduce(self.sums)

    def solve(self) -> list[Tensor]:
        """The best entries of each codebook; one that nobody uses is 0. Each (K, D)"""
        pairs = self.pairs.clone()
        pairs.diagonal().add_(RIDGE)
        factor = torch.linalg.cholesky(pairs, upper=True)
        found = torch.cholesky_solve(self.sums, factor, upper=True).to(self.like.dtype)
        return list(found.split(self.sizes))

    @property
    def counts(self) -> tuple[Tensor, ...]:
        """How often each entry of each codebook was used. Each (K,) int64"""
        return self.pairs.diagonal().long().split(self.sizes)


@torch.no_grad()
def fitted_together(
    z: Tensor, tables: Sequence[Tensor], *, beams: int, rounds: int, seed: int
) -> list[Tensor]:
    """Entries whose sums fit best: codes are searched and entries solved for, in turns.

    Additive Quantization for Extreme Vector Compression, https://doi.org/10.1109/CVPR.2014.124. As
    in LSQ++, https://doi.org/10.1007/978-3-030-01270-0_30, codes are searched with entries that
    noise has moved, less and less: it leads out of the nearest optimum to a better one.

    Args:
        z: Vectors, the same on every rank. (N, D)
        tables: The first entries of each codebook. Each (K, D)
        beams: Number of sums that the search follows.
        rounds: Number of rounds, each of a search and a solution.
        seed: What the noise depends on.

    Returns:
        The better of these and the first entries. Each (K, D)
    """
    center = z.mean(0)  # which no ridge may pull to 0
    first = [tables[0] - center, *tables[1:]]
    z, found, sizes = z - center, first, [len(table) for table in tables]
    spread = left_by(z, first, beams).square().mean(0).sqrt()
    for number in range(rounds):
        share = 1 - number / max(1, rounds - QUIET)
        strength = NOISE * max(0.0, share) ** 0.5 if number else 0.0
        moved = [
            table + strength * spread * noise(table, random.hash_int(seed, number, q))
            for q, table in enumerate(found)
        ]
        equations = NormalEquations(sizes, z)
        equations.add(z, beam_search(z, moved, beams))
        found = equations.solve()
    best = min(
        first, found, key=lambda some: float(left_by(z, some, beams).double().square().sum())
    )
    return [best[0] + center, *best[1:]]


def left_by(z: Tensor, tables: Sequence[Tensor], beams: int) -> Tensor:
    """What the sums that a search finds leave of vectors. (N, D)"""
    pairs = zip(tables, beam_search(z, tables, beams).unbind(-1), strict=True)
    return z - torch.stack([table[some] for table, some in pairs]).sum(0)
