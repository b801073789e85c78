"""Which entries a split used, counted exactly: usage, perplexity, divergence from uniform use."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.codes import Codes
from vqkit.distributed import all_reduce


def histogram(indices: Tensor, size: int, mask: Tensor | None = None) -> Tensor:
    """How often each entry of one codebook was used.

    Args:
        indices: Indices of entries. (...) int64
        size: Number of entries K.
        mask: True where a position is real; None when all are. (...) bool

    Returns:
        Counts, on the device of the indices. (K,) int64

    Raises:
        ValueError: If an index has no entry.
    """
    real = indices.flatten() if mask is None else indices[mask]
    counts = torch.bincount(real, minlength=size)
    if len(counts) > size:
        raise ValueError(f"an index is {len(counts) - 1}, the codebook has {size} entries")
    return counts


@dataclass(frozen=True, slots=True, eq=False)
class CodebookStats:
    """How evenly one codebook is used over a stated number of vectors.

    Attributes:
        size: Number of entries K.
        counts: How often each entry was used, over all ranks. (K,) int64
    """

    size: int
    counts: Tensor

    def __post_init__(self) -> None:
        if self.counts.shape != (self.size,):
            shape = tuple(self.counts.shape)
            raise ValueError(f"counts has shape {shape}; give one count for each of {self.size}")

    @property
    def num_vectors(self) -> int:
        """Number of vectors counted."""
        return int(self.counts.sum())

    @property
    def num_used(self) -> int:
        """Number of entries used at least once."""
        return int((self.counts > 0).sum())

    @property
    def dead(self) -> int:
        """Number of entries that no vector used."""
        return self.size - self.num_used

    @property
    def usage(self) -> float:
        """Share of the entries used at least once, from 0 to 1."""
        return self.num_used / self.size

    @property
    def entropy_nats(self) -> float:
        """Entropy of an index drawn from the split, in nats; 0 when nothing was counted."""
        shares = self.counts.cpu().double() / max(self.num_vectors, 1)
        return float(torch.special.entr(shares).sum())

    @property
    def entropy_bits(self) -> float:
        """The same entropy in bits: the size of an index under the best fixed code."""
        return self.entropy_nats / math.log(2)

    @property
    def perplexity(self) -> float:
        """The number of equally used entries that would have this entropy, from 1 to K."""
        return math.exp(self.entropy_nats)

    @property
    def kl_to_uniform_nats(self) -> float:
        """Divergence of the use from uniform use, in nats: log K less the entropy."""
        return max(math.log(self.size) - self.entropy_nats, 0.0) if self.num_vectors else 0.0

    def summary(self) -> dict[str, int | float]:
        """All of it by name, as JSON values."""
        return {
            "size": self.size,
            "num_vectors": self.num_vectors,
            "usage": self.usage,
            "dead": self.dead,
            "perplexity": self.perplexity,
            "entropy_bits": self.entropy_bits,
            "kl_to_uniform_nats": self.kl_to_uniform_nats,
        }


class CodeCounter:
    """Counts the codes of a whole split, batch by batch and exactly: in int64, for any K.

    Args:
        codebook_sizes: Number of entries of each codebook of each level, coarsest level first.
        device: Where the codes are.
    """

    def __init__(
        self,
        codebook_sizes: Sequence[Sequence[int]],
        *,
        device: torch.device | str = "cpu",
    ) -> None:
        self.counts = [
            [torch.zeros(size, dtype=torch.int64, device=device) for size in sizes]
            for sizes in codebook_sizes
        ]

    def add(self, codes: Codes) -> None:
        """Counts a batch; masked positions, and codes of those that have none, are left out.

        Raises:
            ValueError: If the codes have other levels or codebooks.
        """
        sizes = [tuple(len(counts) for counts in level) for level in self.counts]
        if [level.codebook_sizes for level in codes.levels] != sizes:
            found = [level.codebook_sizes for level in codes.levels]
            raise ValueError(f"codes have codebooks of {found} entries, {sizes} are counted")
        for level, rows in zip(codes.levels, self.counts, strict=True):
            for q, counts in enumerate(rows):
                counts += histogram(level.indices[..., q], len(counts), level.real(q))

    def stats(self) -> tuple[tuple[CodebookStats, ...], ...]:
        """The counts of all ranks; every rank must call it.

        Returns:
            For each level, coarsest first, one for each of its Q codebooks.
        """
        return tuple(
            tuple(CodebookStats(len(counts), all_reduce(counts.clone()).cpu()) for counts in level)
            for level in self.counts
        )
