"""How a codebook is used while it is trained, from its running averages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vqkit.quantizers.revival import DEAD_AFTER, is_dead

if TYPE_CHECKING:
    from vqkit.quantizers.codebook import Codebook


@dataclass(frozen=True, slots=True)
class Usage:
    """What a codebook knows of itself, without any data.

    Attributes:
        size: Number of entries K.
        dim: Length D of each.
        metric: "euclidean" or "cosine".
        start: How the entries began: "kmeans", "data", "normal" or "given"; None if not yet.
        moved_by: "averages" or "gradients"; None where no quantizer holds them.
        is_frozen: Whether they are kept where they are all the same.
        step: Number of commits.
        used: Entries with a hit in the running average that are not dead.
        dead: Entries without a hit while uniform use would have given each ``dead_after``.
        longest_unused: Most vectors that were quantized since an entry was used.
        perplexity: The number of equally used entries with the entropy of the running average,
            from 1 to K.
        revived: How many times an entry was replaced.
    """

    size: int
    dim: int
    metric: str
    start: str | None
    moved_by: str | None
    is_frozen: bool
    step: int
    used: int
    dead: int
    longest_unused: int
    perplexity: float
    revived: int

    @property
    def share(self) -> float:
        """Share of the entries that are used, from 0 to 1."""
        return self.used / self.size


def usage_of(codebook: Codebook, dead_after: float) -> Usage:
    """What a codebook knows of its use; see ``is_dead`` for ``dead_after``."""
    start = "given" if codebook.given else codebook.start
    counts, unused_for = codebook.average_counts, codebook.unused_for
    return Usage(
        size=codebook.size,
        dim=codebook.entries.shape[1],
        metric=codebook.metric,
        start=start if codebook.is_initialized else None,
        moved_by=codebook.moved_by,
        is_frozen=codebook.is_frozen,
        step=int(codebook.step),
        used=int(in_use(counts, unused_for, dead_after).sum()),
        dead=int(is_dead(unused_for, dead_after).sum()),
        longest_unused=int(unused_for.amax()),
        perplexity=perplexity(counts),
        revived=int(codebook.revived),
    )


def in_use(average_counts: Tensor, unused_for: Tensor, dead_after: float = DEAD_AFTER) -> Tensor:
    """Which entries had a hit, and not too long ago.

    Args:
        average_counts: Running average of the use of each entry. (K,)
        unused_for: Number of vectors quantized since each entry was used. (K,) int64
        dead_after: See ``is_dead``.

    Returns:
        (K,) bool
    """
    return (average_counts > 0) & ~is_dead(unused_for, dead_after)


def perplexity(counts: Tensor) -> float:
    """The number of equally used entries that would have the entropy of these counts. (K,)"""
    counts = counts.cpu().double()
    shares = counts / counts.sum().clamp(min=torch.finfo(counts.dtype).tiny)
    return math.exp(float(torch.special.entr(shares).sum()))
