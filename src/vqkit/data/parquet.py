"""Parquet files with one column of encoded items."""

import json
import threading
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from itertools import accumulate
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vqkit.data.fingerprint import fingerprint_files
from vqkit.data.labels import number_classes
from vqkit.data.record import Record

CACHE_BYTES = 2**30  # of row groups kept in memory per process


class ParquetSource:
    """The rows of Parquet files of one schema, in the order of the files.

    Row groups are read when they are needed and stay in memory, the oldest leaving first beyond
    1 GiB. What is read before workers are forked is shared with them.

    Args:
        root: The folder that names of files are relative to.
        files: At least one.
        column: Column of the items: binary, or a struct with the field ``bytes``, as the Hugging
            Face hub stores them. May be left out where there is only one such column.
        label_column: Column of the classes: integers or text. When left out, the column
            ``label`` or ``labels`` is taken if it is there and has a class for every row.

    Raises:
        ValueError: If a file is no Parquet file, the files differ, or a column does not fit.
    """

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        column: str | None = None,
        label_column: str | None = None,
    ) -> None:
        self._root, self._paths = root, tuple(files)
        opened = [_open(path) for path in self._paths]
        schema = opened[0].schema_arrow
        self._column = _find_column(self._paths[0], schema, column)
        for path, file in zip(self._paths, opened, strict=True):
            _find_column(path, file.schema_arrow, self._column)
        # (file, row group) and first row of each
        self._groups = [(f, g) for f, file in enumerate(opened) for g in range(file.num_row_groups)]
        sizes = [opened[f].metadata.row_group(g).num_rows for f, g in self._groups]
        self._starts = [0, *accumulate(sizes)]
        if not self._starts[-1]:
            raise ValueError(f"{self._paths[0]} has no rows; name a file with data")
        self._file_starts = [0, *accumulate(file.metadata.num_rows for file in opened)]
        self.labels, self._classes = self._read_labels(schema, label_column)
        self._label_column = label_column
        self._reset()

    def _reset(self) -> None:
        self._cache: OrderedDict[int, pa.Array] = OrderedDict()
        self._lock = threading.Lock()

    def _read_labels(
        self, schema: pa.Schema, wanted: str | None
    ) -> tuple[tuple[str, ...], list[int] | None]:
        name = wanted or next((n for n in ("label", "labels") if n in schema.names), None)
        if name is None:
            return (), None
        if name not in schema.names:
            columns = ", ".join(schema.names)
            raise ValueError(
                f"label_column is {name!r}, but {self._paths[0]} has the columns {columns}"
            )
        values = [v for path in self._paths for v in _column(path, name).to_pylist()]
        reason = _why_no_labels(values)
        if reason and wanted:
            raise ValueError(f"label_column {name!r} of {self._paths[0]} {reason}")
        if reason:
            return (), None
        names = _class_names(schema, name)
        if names and all(isinstance(v, int) and v < len(names) for v in values):
            return names, values
        return number_classes(values)

    @cached_property
    def fingerprint(self) -> str:
        files = {self._name(path): path for path in self._paths}
        return fingerprint_files(files, self._column, self._label_column or "")

    @property
    def item_shape(self) -> None:
        return None

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Record:
        if not 0 <= index < len(self):
            raise IndexError(f"index is {index}; give at least 0 and less than {len(self)}")
        group = bisect_right(self._starts, index) - 1
        value = self._read(group)[index - self._starts[group]].as_py()
        if value is None:
            raise ValueError("is null; the column needs the bytes of a file in every row")
        file, row = self._place(index)
        digits = len(str(self._file_starts[file + 1] - self._file_starts[file] - 1))
        name = self._name(self._paths[file]).removesuffix(".parquet")
        label = None if self._classes is None else self._classes[index]
        return Record(f"{name}/{row:0{digits}d}", value, label)

    def describe(self, index: int) -> str:
        file, row = self._place(index)
        return f"{self._paths[file]} row {row}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _place(self, index: int) -> tuple[int, int]:
        """The file of an item, and its row there."""
        file = bisect_right(self._file_starts, index) - 1
        return file, index - self._file_starts[file]

    def _read(self, group: int) -> pa.Array:
        """The bytes of one row group."""
        with self._lock:
            if group not in self._cache:
                file, number = self._groups[group]
                with _open(self._paths[file]) as opened:
                    table = opened.read_row_group(number, columns=[self._column], use_threads=False)
                self._cache[group] = _bytes_of(table.column(0))
                while len(self._cache) > 1 and self._cached() > CACHE_BYTES:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(group)
            return self._cache[group]

    def _cached(self) -> int:
        return sum(array.nbytes for array in self._cache.values())

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in vars(self).items() if name not in ("_cache", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._reset()


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is no Parquet file, or is cut ({reason}); copy it again"
        ) from None


def _column(path: Path, name: str) -> pa.ChunkedArray:
    with _open(path) as file:
        return file.read([name], use_threads=False).column(0)


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _find_column(path: Path, schema: pa.Schema, column: str | None) -> str:
    """The column of the items, checked."""
    columns = ", ".join(schema.names)
    if column is None:
        fits = [field.name for field in schema if _holds_bytes(field.type)]
        if len(fits) != 1:
            found = f"columns of encoded items: {', '.join(fits) or 'none'}"
            raise ValueError(f"{path} has the columns {columns} ({found}); name one as column")
        return fits[0]
    if column not in schema.names:
        raise ValueError(f"column is {column!r}, but {path} has the columns {columns}")
    kind = schema.field(column).type
    if not _holds_bytes(kind):
        raise ValueError(
            f"column {column!r} of {path} holds {kind}; name one with the bytes of encoded files"
        )
    return column


def _bytes_of(column: pa.ChunkedArray) -> pa.Array:
    """The binary values of a column, whether they stand in a struct or not."""
    import pyarrow.compute as pc

    if pa.types.is_struct(column.type):
        column = pc.struct_field(column, "bytes")
    return pa.concat_arrays(column.cast(pa.large_binary()).chunks)


def _why_no_labels(values: list[Any]) -> str | None:
    """Why a column's values cannot be classes; None when they can."""
    for kind in (int, str):
        if all(isinstance(value, kind) for value in values):
            negative = kind is int and min(values) < 0
            return "has negative numbers; give 0 or more" if negative else None
    wrong = next((i for i, v in enumerate(values) if not isinstance(v, int | str)), 0)
    return f"has {values[wrong]!r} in row {wrong}; give integers or text in every row"


def _class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """Names that the Hugging Face hub stored beside the column; () when there are none."""
    try:
        stored = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(map(str, stored["info"]["features"][column]["names"]))
    except (KeyError, TypeError, ValueError):
        return ()
