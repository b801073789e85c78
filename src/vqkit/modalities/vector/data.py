"""Vectors: their config, and the splits of a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.data import Chosen, Example, FileKind, Source, Splits, read_all, read_splits
from vqkit.modalities.vector.source import open_vectors
from vqkit.modalities.vector.table import Wanted
from vqkit.schema import STRICT, Seed

VECTORS = FileKind("vector", "vectors", ".npy .npz .csv .parquet")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VectorDataConfig:
    """Vectors of numbers, a row each."""

    type: Literal["vector"] = "vector"
    """The kind of data."""
    path: str
    """An npy, npz, csv, Parquet or idx file, or a folder of them with train and test in the names;
    an npz file may hold both as arrays, such as train_x and test_x. Numbers become float32."""
    eval_path: str | None = None
    """Vectors for evaluation; left out: a split inside path, or else eval_fraction."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the vectors kept for evaluation where no others are named."""
    split_seed: Seed = 0
    """Chooses the vectors kept for evaluation."""
    column: str | None = None
    """Array of the vectors in an npz file, or column of lists in a Parquet file; left out: the only
    one, or of csv and Parquet files all columns of numbers."""
    label_column: str | None = None
    """Array or column of the classes; left out: label, labels, class, target or y, if there."""
    id_column: str | None = None
    """Column of the names of the vectors, in csv and Parquet files; left out: id or item_id, if
    there, else vectors are named by their numbers."""
    strict: bool = False
    """Whether a row with NaN or infinity is an error; otherwise it is listed and left out."""

    @property
    def kind(self) -> FileKind:
        """What the items are called."""
        return VECTORS

    @property
    def wanted(self) -> Wanted:
        """The arrays or columns to read."""
        return Wanted(self.column, self.label_column, self.id_column)

    def open(self, *, folder: Path | None = None) -> "Splits[VectorExamples]":
        """The vectors of a run, split; what was found is kept in the folder.

        Raises:
            FileNotFoundError: If the data are not there.
            ValueError: If they cannot be used, or changed since the run began.
        """
        sources = open_vectors(self.path, self.eval_path, self.wanted)
        found = read_splits(self, sources, VectorReader, folder=folder)
        lengths = found.train.shape, found.evaluation.shape
        if lengths[0] != lengths[1]:
            raise ValueError(
                f"vectors for training have {lengths[0][0]} numbers, for evaluation "
                f"{lengths[1][0]}; give the same columns"
            )
        return found

    def open_all(self) -> "tuple[VectorExamples, tuple[str, ...]]":
        """All vectors of ``path`` as one, and one line for each that was left out."""
        source, more = open_vectors(self.path, None, self.wanted)
        if more is not None:
            which = "set data.column to one" if self.path.endswith(".npz") else "name one of them"
            raise ValueError(f"{self.path} holds several splits; {which}")
        return read_all(source, VectorReader(source), self.path, strict=self.strict)


class VectorReader:
    """Looks at the vectors of one source.

    Args:
        source: Rows of numbers.
    """

    def __init__(self, source: Source) -> None:
        self.source = source

    def measure(self, number: int) -> tuple[int]:
        """The length of a vector; ValueError if a number of it is none, or too large."""
        finite = np.isfinite(row(self.source, number))
        if not finite.all():
            at = int(np.flatnonzero(~finite)[0])
            value = np.asarray(self.source[number].value).reshape(-1)[at]
            what = "is too large for float32" if np.isfinite(value) else "is no number"
            raise ValueError(
                f"has {value} in column {at}, which {what}; mend it, or remove the row"
            )
        return (len(finite),)

    def items(self, numbers: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> "VectorExamples":
        """The rows that are whole."""
        return VectorExamples(self.source, numbers)


class VectorExamples(Chosen):
    """Vectors as examples with x (D,) float32.

    Args:
        source: What is read.
        numbers: The rows that count, in order; at least one.
    """

    def __init__(self, source: Source, numbers: Sequence[int]) -> None:
        super().__init__(source, tuple(numbers), "vectors")
        self.shape = (len(row(source, self.numbers[0])),)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal; changes when the data or their choice do."""
        return self.digest()

    def part(self, numbers: Sequence[int], *, augment: bool = False) -> "VectorExamples":
        """Some vectors of the same source; vectors are never augmented."""
        return VectorExamples(self.source, numbers)

    def example(self, index: int, seed: int | None = None) -> Example:
        """A vector."""
        number = self.numbers[index]
        return Example(torch.from_numpy(row(self.source, number)), self.source.label(number))


def row(source: Source, number: int) -> np.ndarray:
    """The numbers of an item in a row, infinite where they are too large. (D,) float32"""
    with np.errstate(over="ignore"):
        return np.array(source[number].value, dtype=np.float32).reshape(-1)
