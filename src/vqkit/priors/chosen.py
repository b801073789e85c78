"""Some of all items, chosen at random while they go by."""

import torch
from torch import Tensor

from vqkit.distributed import gather_rows
from vqkit.random import hash_tensor


class Chosen:
    """At most so many of all rows that are shown, each as likely; the same on every rank.

    Which these are depends on the seed and on the numbers of the rows alone: ranks that take turns
    by batches choose what one process does.

    Args:
        most: Number of rows to keep.
        seed: Of the choice.
    """

    def __init__(self, most: int, seed: int) -> None:
        self.most, self.seed = most, seed
        self.num_seen = 0
        self.kept: list[tuple[Tensor, Tensor]] = []

    def add(self, rows: Tensor) -> None:
        """Shows rows (N, L); every rank calls it equally often."""
        rows = gather_rows(rows)
        numbers = self.num_seen + torch.arange(len(rows), device=rows.device)
        self.num_seen += len(rows)
        self.kept.append((hash_tensor(self.seed, numbers), rows))
        if sum(len(each) for _, each in self.kept) > 2 * self.most:
            self.kept = [self._least()]

    def rows(self) -> Tensor | None:
        """The rows that were chosen; None if no batch was shown. (N, L)"""
        return self._least()[1] if self.kept else None

    def _least(self) -> tuple[Tensor, Tensor]:
        """The rows of the least hashes."""
        hashes, rows = (torch.cat(parts) for parts in zip(*self.kept, strict=True))
        order = hashes.argsort()[: self.most].sort().values
        return hashes[order], rows[order]
