"""How a codebook's entries lie, among themselves and among the vectors that they stand for."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.distributed import all_reduce
from vqkit.quantizers import Codebook

MOST_ROWS = 4096
"""Entries whose nearest neighbours are looked for; of a larger codebook, so many spread evenly."""
SCORES = 2**22


@dataclass(frozen=True, slots=True)
class Layout:
    """How entries lie among themselves.

    Attributes:
        norms: Length of the shortest entry, of all on average, and of the longest.
        gaps: Distance from an entry to the nearest other: the least, and on average.
        duplicates: Entries that equal one before them, and so are never chosen.
    """

    norms: tuple[float, float, float]
    gaps: tuple[float, float]
    duplicates: int

    @classmethod
    @torch.no_grad()
    def of(cls, table: Tensor) -> "Layout":
        """The layout of a table's rows. (K, D)"""
        table = table.detach().double()
        lengths = table.norm(dim=1)
        gaps = gaps_of(table)
        return cls(
            norms=(float(lengths.min()), float(lengths.mean()), float(lengths.max())),
            gaps=(float(gaps.min()), float(gaps.mean())),
            duplicates=len(table) - len(table.unique(dim=0)),
        )


def gaps_of(table: Tensor) -> Tensor:
    """Distances from entries to the nearest other, of MOST_ROWS of them at most. (K, D) -> (M,)"""
    table = table - table.mean(0)
    num = len(table)
    rows = torch.arange(num, device=table.device)
    if num > MOST_ROWS:
        rows = rows[:MOST_ROWS] * (num - 1) // (MOST_ROWS - 1)
    norms, found = table.square().sum(1), []
    for some in rows.split(max(1, SCORES // num)):
        squares = norms[some].unsqueeze(1) + norms - 2 * table[some] @ table.T
        squares[torch.arange(len(some), device=table.device), some] = torch.inf  # itself
        found.append(squares.amin(1).clamp(min=0).sqrt())
    return torch.cat(found)


@dataclass(frozen=True, slots=True)
class Fit:
    """How well entries stand for their vectors.

    Attributes:
        mse: Mean squared error, over vectors and coordinates.
        variance: Of the vectors, a mean over coordinates.
        mse_of_means: What the error would be with each entry at the mean of its vectors.
        num_vectors: Number of vectors.
        num_used: Number of entries that some vector chose.
    """

    mse: float
    variance: float
    mse_of_means: float
    num_vectors: int
    num_used: int

    @property
    def share(self) -> float:
        """The error as a share of the variance; 0 where nothing varies."""
        return self.mse / self.variance if self.variance else 0.0

    @property
    def gain(self) -> float:
        """By what share the means would lower the error, beyond what chance gives them.

        The mean of n vectors is nearer to just these by 1 / n of their variance than any entry
        that was found without them: all entries together by ``num_used / num_vectors``.
        """
        if not self.mse:
            return 0.0
        return (self.mse - self.mse_of_means) / self.mse - self.num_used / self.num_vectors


class FitCounter:
    """Adds up, batch by batch, how well a codebook stands for its vectors.

    Args:
        book: The codebook.
    """

    def __init__(self, book: Codebook) -> None:
        self.book, self.table = book, book.table.detach().clone()
        self.counts = torch.zeros_like(book.unused_for)
        self.sums = torch.zeros_like(self.table, dtype=torch.float64)
        self.squares = self.sums.new_zeros(self.table.shape[1])
        self.total = self.sums.new_zeros(())

    @torch.no_grad()
    def add(self, vectors: Tensor) -> None:
        """Counts vectors in, as the codebook compares them. (N, D)"""
        indices = self.book.nearest(vectors)
        rows = vectors.double()
        self.counts.index_add_(0, indices, torch.ones_like(indices))
        self.sums.index_add_(0, indices, rows)
        self.squares += rows.square().sum(0)
        self.total += (rows - self.table[indices]).square().sum()

    def fit(self) -> Fit | None:
        """What was found on all ranks, None for no vectors; every rank must call it."""
        counts, sums, squares, total = (
            all_reduce(tensor.clone())
            for tensor in (self.counts, self.sums, self.squares, self.total)
        )
        num, dim = int(counts.sum()), self.table.shape[1]
        if not num:
            return None
        means = sums / counts.clamp(min=1).unsqueeze(1)
        # |z - e|^2 summed over the vectors of an entry exceeds |z - mean|^2 by n |mean - e|^2.
        left = (means - self.book.placed(means)).square()  # 0, but on the sphere
        saved = (counts.unsqueeze(1) * ((means - self.table).square() - left)).sum()
        return Fit(
            mse=float(total) / (num * dim),
            variance=float((squares / num - (sums.sum(0) / num).square()).clamp(min=0).mean()),
            mse_of_means=float(total - saved) / (num * dim),
            num_vectors=num,
            num_used=int((counts > 0).sum()),
        )
