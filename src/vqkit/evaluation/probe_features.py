"""Items as the features that a probe compares: their codes, both sides of these, and themselves."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import Level
from vqkit.data import Examples, in_order
from vqkit.evaluation.information import Uses
from vqkit.nn.evaluating import evaluating
from vqkit.tokens.progress import advancing
from vqkit.tokens.sizes import by_size
from vqkit.tokens.vectors import LevelVectors, Side, level_vectors

MOST_VALUES = 3072
"""Values of a raw item above which it is pooled: 32 x 32 in colour are as they are."""
MOST_ENTRIES = 2**15
"""Entries whose use is a feature, the most used ones where there are more."""
QUARTERS = {1: 4, 2: 2, 3: 2}
"""Parts along each axis in which uses are counted apart: few, for there are many entries."""
PLACES = 16
"""Most parts of an item of which each has a mean vector: 16 of a line, 4 x 4 of an image."""
POOLS = {1: F.adaptive_avg_pool1d, 2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}
Pair = tuple[Any, Any]
"""Features of items to learn from and of others: arrays, or sparse ones of scipy. (N, F), (M, F)"""
Books = Sequence[Uses]


@dataclass(frozen=True, slots=True, eq=False)
class ProbeItems:
    """Some items of a data set, each as several kinds of features.

    Attributes:
        labels: Class of each. (N,) int64
        uses: How often each entry stands in it, for each codebook of each level, the coarsest
            first.
        placed: The same with entries of their own for every part of an item, see ``in_parts``; none
            where items have no places.
        stages: Whether the codebooks are stages, the first of which tell most; of each level.
        vectors: By name, such as ``z_q`` and ``z_q_in_place``: the mean vectors of each level,
            over the item and over each of its parts. Each (N, F) float32
        whole: All values of each; None where sizes differ or there are too many. (N, F) float32
        pooled: A fixed number of values of each. (N, F) float32
    """

    labels: np.ndarray
    uses: tuple[tuple[Uses, ...], ...]
    placed: tuple[tuple[Uses, ...], ...]
    stages: tuple[bool, ...]
    vectors: dict[str, np.ndarray]
    whole: np.ndarray | None
    pooled: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@torch.no_grad()
def probe_items(
    model: VQVAE,
    examples: Examples,
    indices: Sequence[int],
    *,
    batch_size: int = 64,
    num_workers: int = 0,
    progress: bool = False,
) -> ProbeItems:
    """Encodes items, each at its own size, and keeps what a probe needs of them.

    Args:
        model: The tokenizer.
        examples: The items, with labels.
        indices: Which of them.
        batch_size: Items at once.
        num_workers: Processes that read ahead; 0 reads in this one.
        progress: Whether to show a bar.
    """
    device = next(model.parameters()).device
    found = Collected()
    batches = in_order(examples, batch_size, indices=indices, num_workers=num_workers)
    own: Any = getattr(model.objective.modality, "raw_features", None)
    with evaluating(model), advancing("encoding", len(indices), show=progress) as advance:
        for batch in batches:
            for part in by_size(batch):
                if part.labels is None:
                    raise ValueError("the items have no classes; give items that have some")
                moved = part.to(device)
                found.add_levels(list(level_vectors(model, moved.x, moved.mask)))
                found.add_raw(moved.x if own is None else own(moved.x, moved.mask))
                found.labels.append(part.labels)
            advance(len(batch))
    return found.items()


class Collected:
    """What is kept batch by batch."""

    def __init__(self) -> None:
        self.labels: list[Tensor] = []
        self.uses: list[list[list[Uses]]] = []  # of each batch, of each level
        self.placed: list[list[list[Uses]]] = []
        self.stages: tuple[bool, ...] = ()
        self.vectors: dict[str, list[Tensor]] = {}
        self.whole: list[Tensor] | None = []
        self.pooled: list[Tensor] = []

    def add_levels(self, levels: Sequence[LevelVectors]) -> None:
        """Counts the entries of each item, and keeps its mean vectors."""
        codes = [level.codes for level in levels]
        self.stages = tuple(len(c.codebook_sizes) > 1 and c.structure == "residual" for c in codes)
        self.uses.append(list(map(uses_of, codes)))
        self.placed.append([uses_of(in_parts(c)) for c in codes if c.indices.dim() > 2])
        has_places = any(level.z_e.dim() > 2 for level in levels)
        sides: tuple[Side, ...] = ("z_q", "z_e")
        for side in sides:
            found = {side: [means(level, side, 1) for level in levels]}
            if has_places:
                found[f"{side}_in_place"] = [means(level, side, PLACES) for level in levels]
            for name, parts in found.items():
                self.vectors.setdefault(name, []).append(torch.cat(parts, dim=1))

    def add_raw(self, x: Tensor) -> None:
        """Keeps items of one size (B, C, *grid) as they are, as long as all are alike, and pooled.

        Vectors (B, F) are kept as they are.
        """
        x = x.float().cpu()
        self.pooled.append(x if x.dim() == 2 else pool(x, MOST_VALUES // x.shape[1]))
        if self.whole is None:
            return
        alike = not self.whole or self.whole[0].shape[1:] == x.shape[1:]
        if alike and x[0].numel() <= MOST_VALUES:
            self.whole.append(x)
        else:
            self.whole = None

    def items(self) -> ProbeItems:
        """All of it."""
        return ProbeItems(
            torch.cat(self.labels).numpy(),
            all_items(self.uses),
            all_items(self.placed),
            self.stages,
            {name: joined(parts) for name, parts in self.vectors.items()},
            None if self.whole is None else joined(self.whole),
            joined(self.pooled),
        )


def uses_of(level: Level) -> list[Uses]:
    """How often each entry stands in each item of a batch, codebook by codebook."""
    return [Uses.of(level, q) for q in range(len(level.codebook_sizes))]


def all_items(batches: Sequence[Sequence[Books]]) -> tuple[tuple[Uses, ...], ...]:
    """What was counted of each batch, as one for each codebook of each level."""
    levels = zip(*batches, strict=True)
    return tuple(tuple(map(Uses.cat, zip(*level, strict=True))) for level in levels)


def in_parts(level: Level) -> Level:
    """Codes whose entries are others in each of a few equal parts of an item's grid.

    In part p of an item, entry k of K becomes entry p K + k.
    """
    grid, part = level.indices.shape[1:-1], torch.zeros((), dtype=torch.int64)
    num = QUARTERS.get(len(grid), 1)
    for length in grid:
        place = torch.arange(length) * num // length
        part = num * part.unsqueeze(-1) + place
    sizes = torch.tensor(level.codebook_sizes)
    indices = level.indices + (part.unsqueeze(-1) * sizes).to(level.indices.device)
    counted = tuple(num ** len(grid) * size for size in level.codebook_sizes)
    return Level(indices, counted, level.structure, level.mask)


def joined(parts: Sequence[Tensor]) -> np.ndarray:
    """The rows of several batches. (N, F) float32"""
    return torch.cat([part.flatten(1).float().cpu() for part in parts]).numpy()


def means(level: LevelVectors, side: Side, places: int) -> Tensor:
    """The mean vectors of so many equal parts of each item; 0 where nothing is real. (B, F)"""
    vectors, mask = level.side(side).movedim(-1, 1), level.mask
    if vectors.dim() == 2:  # one vector each
        return vectors
    if vectors.dim() - 2 not in POOLS:
        vectors = vectors.flatten(2)
    found = pool(vectors, places)
    if mask is not None:
        real = mask.reshape(len(mask), 1, *vectors.shape[2:]).to(found)
        found = found / pool(real, places).clamp(min=torch.finfo(found.dtype).tiny)
    return found.flatten(1)


def pool(x: Tensor, most: int) -> Tensor:
    """Items (B, C, *grid) averaged over equal parts, as many along each axis, at most so many.

    A value that two parts share counts in both.

    Returns:
        (B, C, *small grid), the same small grid whatever the size of the items.
    """
    axes = x.dim() - 2
    side = max(math.floor(most ** (1 / axes) + 1e-9), 1)
    return POOLS[axes](x, side if axes == 1 else (side,) * axes)


def raw_input(train: ProbeItems, held_out: ProbeItems) -> Pair:
    """The items themselves: whole if all are alike, or else pooled. (N, F) and (M, F)"""
    if train.whole is not None and held_out.whole is not None:
        return train.whole, held_out.whole
    return train.pooled, held_out.pooled


def histograms(train: Books, held_out: Books) -> Pair:
    """Square roots of the share that each entry has in the codes of an item.

    Their inner products tell histograms apart better than those of the shares do: Three Things
    Everyone Should Know to Improve Object Retrieval, section 3,
    https://doi.org/10.1109/CVPR.2012.6248018

    Args:
        train: Uses of each codebook, of items to learn from: entries that occur there are features,
            the most used ones if there are too many.
        held_out: The same of others.

    Returns:
        (N, F) and (M, F), sparse
    """
    from scipy.sparse import csr_array, hstack

    most = max(MOST_ENTRIES // len(train), 1)
    pairs = [shares(both, most) for both in zip(train, held_out, strict=True)]
    first, second = (csr_array(hstack(parts)).power(0.5) for parts in zip(*pairs, strict=True))
    return first, second


def shares(both: tuple[Uses, Uses], most: int) -> Pair:
    """The shares themselves of one codebook, of the ``most`` entries that the first use most."""
    from scipy.sparse import csr_array

    entries, place = np.unique(both[0].entries, return_inverse=True)
    totals = np.bincount(place, weights=both[0].counts)
    chosen = np.sort(entries[np.argsort(-totals, kind="stable")[:most]])
    found = []
    for uses in both:
        known = np.isin(uses.entries, chosen)
        columns, items = np.searchsorted(chosen, uses.entries[known]), uses.items[known]
        whole = np.bincount(uses.items, weights=uses.counts, minlength=uses.num_items)
        values = uses.counts[known] / whole[items]
        found.append(csr_array((values, (items, columns)), shape=(uses.num_items, len(chosen))))
    return found[0], found[1]
