"""One item of a token set, and its way from and to codes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vqkit.codes import Codes, Level, LevelSpec

Shape = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """The codes of one item, without padding.

    Attributes:
        id: The item's name in its data.
        codes: Levels coarsest first, each in raster order, codebooks last. (L,) int
        shape: The lengths (*grid, Q) of each level, coarsest first.
        label: The item's class; None when it has none.
        mask: True where a code is real; None when all are. (L,) bool
        size: Lengths of the item's own grid, where its codes do not tell: a code may stand for
            more than was there. None where they do.
    """

    id: str
    codes: np.ndarray
    shape: Shape
    label: int | None = None
    mask: np.ndarray | None = None
    size: tuple[int, ...] | None = None


def rows(
    codes: Codes,
    ids: Sequence[str],
    labels: Sequence[int | None],
    size: tuple[int, ...] | None = None,
) -> list[Row]:
    """The items of a batch one by one.

    Args:
        codes: Codes of B items of one size, as ``by_size`` gives them: masked only at holes.
        ids: Their names. B
        labels: Their classes. B
        size: See ``Row``; of all of them.
    """
    if codes.flat_mask() is None:
        flat = codes.flat().cpu().numpy()
        shape = tuple(tuple(level.indices.shape[1:]) for level in codes.levels)
        found = zip(ids, flat, labels, strict=True)
        return [Row(id, own, shape, label, size=size) for id, own, label in found]
    items = [codes[i : i + 1].to("cpu") for i in range(len(ids))]
    return [row(*item, size) for item in zip(items, ids, labels, strict=True)]


def row(codes: Codes, id: str, label: int | None, size: tuple[int, ...] | None = None) -> Row:
    """One item, given as a batch of one that holds no padding it can do without."""
    mask = codes.flat_mask()
    shape = tuple(tuple(level.indices.shape[1:]) for level in codes.levels)
    real = None if mask is None or mask.all() else mask[0].numpy()
    return Row(id, codes.flat()[0].numpy(), shape, label, real, size)


def pad(codes: Codes, specs: Sequence[LevelSpec]) -> Codes:
    """Codes of B items with every grid as long as in ``specs``, masked where nothing was.

    Raises:
        ValueError: If a grid is longer than that.
    """
    levels = []
    for level, spec in zip(codes.levels, specs, strict=True):
        own = tuple(level.indices.shape[1:-1])
        if any(length > most for length, most in zip(own, spec.grid, strict=True)):
            raise ValueError(
                f"an item has {own} codes, more than {spec.grid}; leave such items out"
            )
        box = (slice(None), *(slice(length) for length in own))
        num = len(level.indices)
        indices = level.indices.new_zeros(num, *spec.grid, len(spec.codebook_sizes))
        mask = torch.zeros(num, *spec.grid, dtype=torch.bool, device=indices.device)
        indices[box] = level.indices
        mask[box] = True if level.mask is None else level.mask
        levels.append(Level(indices, level.codebook_sizes, level.structure, mask))
    return Codes(tuple(levels))


def codes_of(
    flat: Tensor, shape: Shape, specs: Sequence[LevelSpec], mask: Tensor | None = None
) -> Codes:
    """Items of one shape as codes.

    Args:
        flat: Codes. (B, L) int64
        shape: The lengths (*grid, Q) of each level of these items.
        specs: Codebooks and structures of the levels.
        mask: True where a code is real; None when all are. (B, L) bool

    Raises:
        ValueError: If the shape does not go with the levels or with the number of codes.
    """
    if len(shape) != len(specs) or flat.shape[1] != sum(math.prod(lengths) for lengths in shape):
        raise ValueError(f"codes of shape {shape} do not go with levels {tuple(specs)}")
    own = [
        LevelSpec(tuple(lengths[:-1]), spec.codebook_sizes, spec.structure)
        for lengths, spec in zip(shape, specs, strict=True)
    ]
    return Codes.from_flat(flat, own, mask)
