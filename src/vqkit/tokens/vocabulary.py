"""One flat vocabulary for the codes of all levels and codebooks, as language models read them."""

import math
from functools import lru_cache
from itertools import accumulate
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.codes import Codes, LevelSpec
from vqkit.schema import STRICT
from vqkit.tokens.rows import Shape, codes_of


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Vocabulary:
    """Numbers every entry of every codebook anew, one codebook after another, then special tokens.

    An item becomes the integers of ``Codes.flat`` (levels coarsest first, each in raster order, the
    codebooks of a position one after another), each plus the first id of its codebook. Codes that
    are not real are left out.
    """

    levels: tuple[LevelSpec, ...]
    """Shapes of the levels, coarsest first; the longest grids where items differ."""
    first_id: Annotated[int, Field(ge=0)] = 0
    """Id of the first entry, such as the size of another vocabulary that comes before."""
    bos: bool = True
    """Whether a token begins each item."""
    eos: bool = True
    """Whether a token ends each item."""
    pad: bool = False
    """Whether there is a token for what is not there."""

    @property
    def offsets(self) -> tuple[tuple[int, ...], ...]:
        """Id of entry 0 of each codebook, for each level."""
        sizes = [spec.codebook_sizes for spec in self.levels]
        starts = accumulate((size for level in sizes for size in level), initial=self.first_id)
        return tuple(tuple(next(starts) for _ in level) for level in sizes)

    @property
    def num_entries(self) -> int:
        """Entries of all codebooks together."""
        return sum(size for spec in self.levels for size in spec.codebook_sizes)

    @property
    def bos_id(self) -> int | None:
        """The token that begins an item; None if there is none."""
        return self._special("bos")

    @property
    def eos_id(self) -> int | None:
        """The token that ends an item; None if there is none."""
        return self._special("eos")

    @property
    def pad_id(self) -> int | None:
        """The token of what is not there; None if there is none."""
        return self._special("pad")

    @property
    def size(self) -> int:
        """One more than the largest id."""
        return self.first_id + self.num_entries + self.bos + self.eos + self.pad

    def ids(self, codes: Codes) -> np.ndarray:
        """One item as tokens, between those that begin and end it. (L,) int64"""
        shape = tuple(tuple(level.indices.shape[1:]) for level in codes.levels)
        flat, real = codes.flat()[0].numpy(), codes.flat_mask()
        found = flat + spans(self.offsets, self._sizes, shape)[0]
        if real is not None:
            found = found[real[0].numpy()]
        ends = [[each] if each is not None else [] for each in (self.bos_id, self.eos_id)]
        return np.concatenate([np.array(ends[0], np.int64), found, np.array(ends[1], np.int64)])

    def codes(
        self, ids: np.ndarray, shape: Shape | None = None, mask: np.ndarray | None = None
    ) -> Codes:
        """The inverse of ``ids``; special tokens are left out, wherever they stand.

        Args:
            ids: Tokens of one item. (L,) int
            shape: The lengths (*grid, Q) of each of its levels; None: those of ``levels``.
            mask: True where a code is real, in the order of ``Codes.flat``; None when all are. (M,)
                bool

        Raises:
            ValueError: If there are too few or too many, or one is of another codebook than is due.
        """
        if shape is None:
            shape = tuple((*spec.grid, len(spec.codebook_sizes)) for spec in self.levels)
        starts, sizes = spans(self.offsets, self._sizes, shape)
        real = np.ones(len(starts), dtype=bool) if mask is None else mask
        own = np.asarray(ids, dtype=np.int64)
        own = own[
            ~np.isin(own, [i for i in (self.bos_id, self.eos_id, self.pad_id) if i is not None])
        ]
        if len(own) != real.sum():
            raise ValueError(f"{len(own)} tokens are given, the item has {real.sum()} codes")
        indices = own - starts[real]
        wrong = np.flatnonzero((indices < 0) | (indices >= sizes[real]))
        if len(wrong):
            at = int(wrong[0])
            first = int(starts[real][at])
            raise ValueError(
                f"token {own[at]} at place {at} is no entry of the codebook that is due there; its "
                f"tokens are {first} to {first + sizes[real][at] - 1}"
            )
        flat = np.zeros((1, len(starts)), dtype=np.int64)
        flat[0, real] = indices
        known = None if mask is None else torch.from_numpy(np.array(mask, dtype=bool)).unsqueeze(0)
        return codes_of(torch.from_numpy(flat), shape, self.levels, known)

    @property
    def _sizes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(spec.codebook_sizes for spec in self.levels)

    def _special(self, name: str) -> int | None:
        """The id of a special token: they come last, in the order bos, eos, pad."""
        if not getattr(self, name):
            return None
        before = {"bos": 0, "eos": self.bos, "pad": self.bos + self.eos}[name]
        return self.first_id + self.num_entries + before


@lru_cache(maxsize=1024)
def spans(
    offsets: tuple[tuple[int, ...], ...], sizes: tuple[tuple[int, ...], ...], shape: Shape
) -> tuple[np.ndarray, np.ndarray]:
    """Of every code of an item the first id of its codebook, and how many entries that has.

    Args:
        offsets: First id of each codebook, for each level.
        sizes: Entries of each.
        shape: The lengths (*grid, Q) of each level of the item.

    Returns:
        In the order of ``Codes.flat``. Both (L,) int64
    """
    found = []
    for rows in (offsets, sizes):
        parts = [
            np.tile(np.array(row, np.int64), math.prod(lengths[:-1]))
            for row, lengths in zip(rows, shape, strict=True)
        ]
        found.append(np.concatenate(parts))
    return found[0], found[1]
