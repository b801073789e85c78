"""What units (the entries of a codebook) and labels tell of each other."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from vqkit.codes import Level


@dataclass(frozen=True, slots=True, eq=False)
class Uses:
    """How often entries of one codebook stand in items; a row for each pair that occurs.

    Attributes:
        items: Number of the item. (M,) int64
        entries: The entry. (M,) int64
        counts: How often it stands in the item. (M,) int64
        num_items: How many items there are, those without any code too.
    """

    items: np.ndarray
    entries: np.ndarray
    counts: np.ndarray
    num_items: int

    @classmethod
    def of(cls, level: Level, codebook: int) -> Self:
        """Those of a batch; codes that stand for nothing are left out."""
        indices, real = level.indices[..., codebook].cpu().numpy(), level.real(codebook)
        num, size = len(indices), level.codebook_sizes[codebook]
        items = np.broadcast_to(
            np.arange(num).reshape(-1, *[1] * (indices.ndim - 1)), indices.shape
        )
        where = np.ones(indices.shape, bool) if real is None else real.cpu().numpy()
        pairs, counts = np.unique(items[where] * size + indices[where], return_counts=True)
        return cls(pairs // size, pairs % size, counts, num)

    @classmethod
    def cat(cls, parts: Sequence[Self]) -> Self:
        """The items of several as one."""
        starts = np.cumsum([0, *(part.num_items for part in parts)])
        items = [part.items + start for part, start in zip(parts, starts, strict=False)]
        entries, counts = ([getattr(p, name) for p in parts] for name in ("entries", "counts"))
        rows = (np.concatenate(each) for each in (items, entries, counts))
        return cls(*rows, num_items=int(starts[-1]))


@dataclass(frozen=True, slots=True)
class Shared:
    """What the codes of one codebook and the classes of their items have in common.

    HuBERT, section IV.D, https://arxiv.org/abs/2106.07447, with classes for phones.

    Attributes:
        num_positions: Codes that were counted.
        num_used: Entries among them.
        mutual_information_bits: What the code of one position tells of the class.
        nmi: The same over the mean of both entropies, from 0 to 1.
        label_information: The same over the entropy of the classes: 1 if a code settles it.
        label_purity: How often the class is the one that its code has most often.
        code_purity: How often the code is the one that its class has most often.
        majority: How often the class is the most frequent of all: the least label purity.
    """

    num_positions: int
    num_used: int
    mutual_information_bits: float
    nmi: float
    label_information: float
    label_purity: float
    code_purity: float
    majority: float


def shared(uses: Uses, labels: np.ndarray) -> Shared:
    """Counts pairs of a class and an entry over all positions of all items.

    Args:
        uses: The codes of the items.
        labels: Class of each item, 0 or more. (N,) int64

    Raises:
        ValueError: If there are no codes.
    """
    if not len(uses.counts):
        raise ValueError("no code stands for anything; there is nothing to count")
    entries, code_of = np.unique(uses.entries, return_inverse=True)
    cells, cell_of = np.unique(labels[uses.items] * len(entries) + code_of, return_inverse=True)
    n = np.bincount(cell_of, weights=uses.counts)
    classes, codes = cells // len(entries), cells % len(entries)
    of_class, of_code = np.bincount(classes, weights=n), np.bincount(codes, weights=n)
    total = n.sum()
    nats = max(
        float((n * np.log(n * total / (of_class[classes] * of_code[codes]))).sum() / total), 0
    )
    most_in_class, most_in_code = np.zeros_like(of_class), np.zeros_like(of_code)
    np.maximum.at(most_in_class, classes, n)
    np.maximum.at(most_in_code, codes, n)
    class_nats, code_nats = entropy(of_class), entropy(of_code)
    mean = (class_nats + code_nats) / 2
    return Shared(
        num_positions=int(total),
        num_used=len(entries),
        mutual_information_bits=nats / math.log(2),
        nmi=nats / mean if mean > 0 else 0.0,
        label_information=nats / class_nats if class_nats > 0 else 0.0,
        label_purity=float(most_in_code.sum() / total),
        code_purity=float(most_in_class.sum() / total),
        majority=float(of_class.max() / total),
    )


def entropy(counts: np.ndarray) -> float:
    """The entropy of what was counted, in nats."""
    shares = counts[counts > 0] / counts.sum()
    return float(-(shares * np.log(shares)).sum())
