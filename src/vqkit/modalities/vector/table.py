"""Rows of numbers in csv and Parquet files."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from vqkit.modalities.vector.csv_file import line_of, nulls, read_csv

LABELS = ("label", "labels", "class", "target", "y")
NAMES = ("id", "item_id", "", "Unnamed: 0")  # the last two are what pandas calls its row numbers
NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$"
NO_WORD = re.compile(rf"{NUMBER}|^\s*[-+]?(inf(inity)?|nan)\s*$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of a table is wanted.

    Attributes:
        column: A column of lists, or one of numbers; None for all columns of numbers.
        label_column: Column of the classes; None for one of the usual names, if there.
        id_column: Column of the names; None for one of the usual names, if there.
    """

    column: str | None = None
    label_column: str | None = None
    id_column: str | None = None

    def check(self, where: str, names: Sequence[str]) -> None:
        """Raises ValueError if a column is not among the names, or is there twice."""
        for key in ("column", "label_column", "id_column"):
            name = getattr(self, key)
            if name is not None and name not in names:
                have = f"{where} has {', '.join(names) or 'no names'}"
                raise ValueError(f"{key} is {name!r}, but {have}; set data.{key} to one of them")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """What was read of a table.

    Attributes:
        columns: Names of the columns of the vectors.
        values: Their numbers; NaN where there was none. (N, D) float32 or float64
        classes: The class of each row; None without. (N,)
        ids: The name of each row; None without. (N,)
    """

    columns: tuple[str, ...]
    values: np.ndarray
    classes: np.ndarray | None
    ids: tuple[str, ...] | None


class Values:
    """The numbers of a table, which are read again in a process that this is sent to.

    Args:
        files: Where they are.
        wanted: What is wanted of them.
        values: What was read. (N, D)
    """

    def __init__(self, files: Sequence[Path], wanted: Wanted, values: np.ndarray) -> None:
        self.files, self.wanted = files, wanted
        self.values: np.ndarray | None = values

    def __call__(self) -> np.ndarray:
        """The numbers. (N, D)"""
        return read_table(self.files, self.wanted).values if self.values is None else self.values

    def __getstate__(self) -> dict[str, Any]:
        return vars(self) | {"values": None}


def read_table(files: Sequence[Path], wanted: Wanted) -> Table:
    """Reads the rows of a csv file, or of one or more Parquet files.

    Raises:
        ValueError: If a file is damaged, or there are no such columns.
    """
    where, table = str(files[0]), joined(files)
    names = table.column_names
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{where} has several columns {repeated[0]!r}; give each its own name")
    wanted.check(where, names)
    taken = {wanted.column, wanted.label_column, wanted.id_column}
    label = wanted.label_column or first_of(LABELS, names, taken)
    name = wanted.id_column or first_of(NAMES, names, taken)
    others = [other for other in names if other not in (label, name)]
    columns = [wanted.column] if wanted.column else vector_columns(where, table, others)
    ids = None if name is None else tuple(map(str, table[name].to_pylist()))
    if ids is not None and len(set(ids)) < len(ids):
        seen: set[str] = set()
        twice = next(one for one in ids if one in seen or seen.add(one))
        raise ValueError(f"{where} has {twice!r} twice in column {name!r}; give each row its own")
    if label is not None and (missing := table[label].null_count):
        have = f"column {label!r} has no class in {missing} of {len(table)} rows"
        raise ValueError(f"{where}: {have}; give one in every row, or remove these rows")
    classes = None if label is None else np.asarray(table[label].to_pylist())
    return Table(tuple(columns), values_of(where, table, columns), classes, ids)


def first_of(usual: Sequence[str], names: Sequence[str], taken: set[str | None]) -> str | None:
    """The first of some usual names that is there and not taken for something else."""
    return next((name for name in usual if name in names and name not in taken), None)


def vector_columns(where: str, table: pa.Table, names: Sequence[str]) -> list[str]:
    """The columns of numbers, or the only column of lists; those of text and dates are left out.

    Raises:
        ValueError: If there are none, it is not clear which, or a column of numbers has a word.
    """
    lists = [name for name in names if is_list(table.schema.field(name).type)]
    numbers = [name for name in names if is_number(table.schema.field(name).type)]
    if lists and (len(lists) > 1 or numbers):
        raise ValueError(f"{where} has a column of lists, {lists[0]}, and others; set data.column")
    for name in names:
        if pa.types.is_string(table.schema.field(name).type) and not lists:
            refuse_words(where, table[name], name)
    if not lists and not numbers:
        raise ValueError(f"{where} has no column of numbers; give columns of numbers, or of lists")
    return lists or numbers


def refuse_words(where: str, column: pa.ChunkedArray, name: str) -> None:
    """Raises ValueError if a column of text holds numbers, too: one wrong cell made it text."""
    like = pc.match_substring_regex(column, NUMBER)  # pyright: ignore[reportAttributeAccessIssue]
    if not pc.any(like).as_py():  # pyright: ignore[reportAttributeAccessIssue]
        return
    empty = nulls()
    for row, word in enumerate(column.to_pylist()):
        if word is not None and word not in empty and not NO_WORD.match(word):
            raise ValueError(
                f"{where}: column {name!r} has {word!r} among its numbers, in "
                f"{place_of(where, row)}; mend it, or leave it empty"
            )
    raise ValueError(f"{where}: column {name!r} holds numbers as text; store them as numbers")


def place_of(where: str, row: int) -> str:
    """Where a row is: the line of a csv file, as an editor counts, or its number."""
    return f"line {line_of(Path(where), row)}" if where.endswith(".csv") else f"row {row}"


def values_of(where: str, table: pa.Table, columns: Sequence[str]) -> np.ndarray:
    """The numbers of some columns, NaN where there is none. (N, D)"""
    kind = table.schema.field(columns[0]).type
    if len(columns) == 1 and is_list(kind):
        return lists_of(where, table[columns[0]].combine_chunks(), columns[0])
    parts = []
    for name in columns:
        if not is_number(table.schema.field(name).type):
            raise ValueError(f"{where}: column {name!r} holds {kind}; name one of numbers or lists")
        parts.append(table[name].cast(pa.float64()).to_numpy())  # null becomes NaN
    return np.stack(parts, axis=1)


def lists_of(where: str, lists: pa.Array, name: str) -> np.ndarray:
    """Lists of one length as rows. (N, D)"""
    if not is_number(lists.type.value_type):
        raise ValueError(f"{where}: column {name!r} holds {lists.type}; give lists of numbers")
    lengths = pc.list_value_length(lists).to_numpy(zero_copy_only=False)  # pyright: ignore
    if len(lengths) and not (lengths == lengths[0]).all():
        row = int(np.flatnonzero(~(lengths == lengths[0]))[0])
        found = "none" if np.isnan(lengths[row]) else f"{int(lengths[row])}"
        raise ValueError(
            f"{where}: row {row} of column {name!r} has {found} numbers, row 0 {lengths[0]:.0f}; "
            "make all as long"
        )
    kind = pa.float32() if lists.type.value_type == pa.float32() else pa.float64()
    flat = lists.flatten().cast(kind).to_numpy(zero_copy_only=False)
    return flat.reshape(len(lists), -1)


def joined(files: Sequence[Path]) -> pa.Table:
    """The rows of all files, one after another."""
    if files[0].suffix == ".csv":
        return read_csv(files[0])
    tables = [read_parquet(file) for file in files]
    try:
        return pa.concat_tables(tables)
    except pa.ArrowInvalid:
        raise ValueError(f"{files[0].parent} holds tables of unlike columns; name one") from None


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is cut or no Parquet file ({reason}); copy it again") from None


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds numbers."""
    types = pa.types
    plain = types.is_integer(kind) or types.is_floating(kind) or types.is_decimal(kind)
    return plain or types.is_boolean(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
