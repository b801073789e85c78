"""The columns of one shard in memory, each as compact as it was written."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from vqkit.tokens.rows import Shape
from vqkit.tokens.sharding import damaged
from vqkit.tokens.shards import Header, read_columns


class Columns:
    """The items of one shard with random access: two or four bytes per token in memory.

    Args:
        header: Of the shard.
        folder: Where the shard is.

    Raises:
        ValueError: If the shard is cut or damaged.
    """

    def __init__(self, header: Header, folder: Path) -> None:
        self.path = folder / header.name
        table = read_columns(self.path, ["id", "codes", "shape", "label", "mask", "size"])
        columns = {name: table[name].combine_chunks() for name in table.column_names}
        self._ids, self._shapes, self._masks = columns["id"], columns["shape"], columns["mask"]
        self._sizes = columns.get("size")
        labels = columns["label"]
        self._labelled = labels.is_valid().to_numpy(zero_copy_only=False)
        self._labels = labels.fill_null(0).to_numpy()
        self._values = columns["codes"].values.to_numpy()
        self._ends = columns["codes"].offsets.to_numpy()
        if len(self._values) and self._values.max() >= header.vocabulary:
            largest = int(self._values.max())
            error = ValueError(f"code {largest}, the vocabulary is {header.vocabulary}")
            raise damaged(self.path, error)

    @property
    def lengths(self) -> np.ndarray:
        """How many codes each item has. (N,) int"""
        return np.diff(self._ends)

    def codes(self, place: int) -> np.ndarray:
        """The codes of an item in a row. (L,) int64"""
        return self._values[self._ends[place] : self._ends[place + 1]].astype(np.int64)

    def label(self, place: int) -> int | None:
        """The class of an item; None when it has none."""
        return int(self._labels[place]) if self._labelled[place] else None

    def id(self, place: int) -> str:
        """The name of an item."""
        return self._ids[place].as_py()

    def shape(self, place: int) -> Shape:
        """The lengths (*grid, Q) of each level of an item."""
        return as_shape(self._shapes[place])

    def mask(self, place: int) -> np.ndarray | None:
        """Which codes of an item are real; None when all are. (L,) bool"""
        values = self._masks[place].as_py()
        return None if values is None else np.array(values, dtype=bool)

    def size(self, place: int) -> tuple[int, ...] | None:
        """Lengths of an item's own grid; None where its codes tell."""
        values = None if self._sizes is None else self._sizes[place].as_py()
        return None if values is None else tuple(values)


def as_shape(value: pa.Scalar) -> Shape:
    """A value of the column ``shape`` as tuples."""
    return tuple(tuple(lengths) for lengths in value.as_py())
