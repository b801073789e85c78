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
from vqkit.data.record import Record, numbered_id

CACHE_BYTES = 2**29  # of row groups kept in memory, per process
LABELS = ("label", "labels")


class ParquetSource:
    """The rows of Parquet files, in the order of the files.

    Row groups are read when they are needed and stay in memory, the oldest leaving first beyond
    512 MiB. What was read before workers are forked is shared with them.

    Args:
        root: The folder that the names of files in ids are relative to.
        files: At least one.
        column: Column of the items: binary, or a struct with a field ``bytes``, as the Hugging
            Face hub stores them. May be left out where there is only one such column.
        label_column: Column of the classes: integers or text. When left out, the column
            ``label`` or ``labels`` where it is there and has a class in every row.
        text: Whether the items are texts, which columns of strings hold, too.

    Attributes:
        no_labels: Why a column that could hold the classes does not; None where there is no such.

    Raises:
        ValueError: If a file is no Parquet file, there are no rows, or a column does not fit.
    """

    no_labels: str | None = None

    def __init__(
        self,
        root: Path,
        files: Sequence[Path],
        column: str | None = None,
        label_column: str | None = None,
        *,
        text: bool = False,
    ) -> None:
        self._root, self._paths = root, tuple(files)
        footers = [_read_footer(path) for path in self._paths]
        schema = footers[0].schema.to_arrow_schema()
        self._text = text
        if text:
            self._column = _find_text(self._paths[0], schema, column, label_column)
        else:
            self._column = _find_column(self._paths[0], schema, column)
        for path, footer in zip(self._paths, footers, strict=True):
            if self._column not in footer.schema.to_arrow_schema().names:
                raise ValueError(f"{path} has no column {self._column!r}, as {files[0]} has")
        groups = [(f, g) for f, footer in enumerate(footers) for g in range(footer.num_row_groups)]
        sizes = [footers[file].row_group(group).num_rows for file, group in groups]
        self._groups = groups
        self._group_starts = [0, *accumulate(sizes)]
        self._file_starts = [0, *accumulate(footer.num_rows for footer in footers)]
        if not len(self):
            raise ValueError(f"{self._paths[0]} has no rows; name a file with data")
        self._label_column = _find_label_column(self._paths[0], schema, label_column)
        self.labels, self._classes = self._read_labels(schema, label_column is not None)
        self._forget()

    def _read_labels(
        self, schema: pa.Schema, asked: bool
    ) -> tuple[tuple[str, ...], list[int] | None]:
        """Names of the classes, and the class of each row; neither where a column does not fit."""
        name = self._label_column
        if name is None:
            return (), None
        values = [value for path in self._paths for value in _read_column(path, name)]
        reason = _why_no_labels(values)
        if reason and asked:
            raise ValueError(f"label_column {name!r} of {self._paths[0]} {reason}")
        if reason:
            self.no_labels = f"column {name!r} of {self._paths[0]} {reason}"
            return (), None
        names = _class_names(schema, name)
        if names and all(isinstance(value, int) and value < len(names) for value in values):
            return names, values
        return number_classes(values)

    def _forget(self) -> None:
        self._cache: OrderedDict[int, pa.Array] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        files = {self._name(path): path for path in self._paths}
        return fingerprint_files(files, self._column, self._label_column or "")

    @property
    def item_shape(self) -> None:
        return None

    def __len__(self) -> int:
        return self._file_starts[-1]

    def __getitem__(self, index: int) -> Record:
        group = bisect_right(self._group_starts, index) - 1
        value = self._read(group)[index - self._group_starts[group]].as_py()
        if value is None:
            what = "a text" if self._text else "the bytes of a file"
            raise ValueError(f"is null; store {what} in every row")
        return Record(self.id(index), value, self.label(index))

    def id(self, index: int) -> str:
        file, row, count = self._place(index)
        name = self._name(self._paths[file]).removesuffix(".parquet")
        return f"{name}/{numbered_id(row, count)}"

    def label(self, index: int) -> int | None:
        return None if self._classes is None else self._classes[index]

    def describe(self, index: int) -> str:
        file, row, _ = self._place(index)
        return f"{self._paths[file]} row {row}"

    def _name(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _place(self, index: int) -> tuple[int, int, int]:
        """The file of an item, its row there, and how many rows the file has."""
        file = bisect_right(self._file_starts, index) - 1
        start, end = self._file_starts[file : file + 2]
        return file, index - start, end - start

    def _read(self, group: int) -> pa.Array:
        """The items of one row group."""
        with self._lock:
            if group not in self._cache:
                file, number = self._groups[group]
                with _open(self._paths[file]) as opened:
                    table = opened.read_row_group(number, columns=[self._column], use_threads=False)
                self._cache[group] = _bytes_of(table.column(0))
                while len(self._cache) > 1 and self._cached_bytes() > CACHE_BYTES:
                    self._cache.popitem(last=False)
            self._cache.move_to_end(group)
            return self._cache[group]

    def _cached_bytes(self) -> int:
        return sum(array.nbytes for array in self._cache.values())

    def __getstate__(self) -> dict[str, Any]:
        return {name: v for name, v in vars(self).items() if name not in ("_cache", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._forget()


def _open(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is cut or no Parquet file ({reason}); copy it again") from None


def _read_footer(path: Path) -> pq.FileMetaData:
    with _open(path) as file:
        return file.metadata


def _read_column(path: Path, name: str) -> list[Any]:
    with _open(path) as file:
        if name not in file.schema_arrow.names:
            raise ValueError(f"{path} has no column {name!r}, as other files have")
        return file.read([name], use_threads=False).column(0).to_pylist()


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        index = kind.get_field_index("bytes")
        return index >= 0 and _holds_bytes(kind.field(index).type)
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)


def _find_column(path: Path, schema: pa.Schema, column: str | None) -> str:
    """The column of the items, checked."""
    columns = f"{path} has the columns {', '.join(schema.names)}"
    if column is None:
        fits = [field.name for field in schema if _holds_bytes(field.type)]
        if len(fits) != 1:
            which = f"those with the bytes of files: {', '.join(fits) or 'none'}"
            raise ValueError(f"{columns} ({which}); set data.column to one")
        return fits[0]
    if column not in schema.names:
        raise ValueError(f"column is {column!r}, but {columns}; set data.column to one of them")
    kind = schema.field(column).type
    if not _holds_bytes(kind):
        raise ValueError(f"column {column!r} of {path} holds {kind}; name one with bytes of files")
    return column


def _find_text(path: Path, schema: pa.Schema, column: str | None, label: str | None) -> str:
    """The column of the texts, of strings or of bytes, checked."""
    labels = (*LABELS, label)
    fits = [field.name for field in schema if _holds_text(field.type)]
    if column is None and len(usual := [name for name in fits if name not in labels]) == 1:
        return usual[0]
    if column is not None and column in fits:
        return column
    what = "columns" if column is None else f"no column {column!r} of texts, but those"
    have = f"{path} has {what} {', '.join(schema.names)} (of texts: {', '.join(fits) or 'none'})"
    raise ValueError(f"{have}; set data.column to one")


def _holds_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or _holds_bytes(kind)


def _find_label_column(path: Path, schema: pa.Schema, wanted: str | None) -> str | None:
    if wanted is None:
        return next((name for name in LABELS if name in schema.names), None)
    if wanted not in schema.names:
        columns = f"{path} has the columns {', '.join(schema.names)}"
        raise ValueError(
            f"label_column is {wanted!r}, but {columns}; set data.label_column to one of them"
        )
    return wanted


def _bytes_of(column: pa.ChunkedArray) -> pa.Array:
    """The binary values of a column, whether they stand in a struct or not."""
    chunks = []
    for chunk in column.chunks:
        if isinstance(chunk, pa.StructArray):
            chunk = chunk.flatten()[chunk.type.get_field_index("bytes")]
        chunks.append(chunk.cast(pa.large_binary()))
    return pa.concat_arrays(chunks)


def _why_no_labels(values: list[Any]) -> str | None:
    """Why the values of a column cannot be classes; None when they can."""
    for kind in (int, str):
        if all(isinstance(value, kind) for value in values):
            negative = kind is int and min(values) < 0
            return "has negative numbers; give 0 or more" if negative else None
    wrong = next((i for i, v in enumerate(values) if type(v) is not type(values[0])), 0)
    if values[0] is None or not isinstance(values[0], int | str):
        wrong = 0
    missing = sum(value is None for value in values)
    tail = f" ({missing} of {len(values)} have none)" if missing else ""
    return f"has {values[wrong]!r} in row {wrong}; give integers or text in every row{tail}"


def _class_names(schema: pa.Schema, column: str) -> tuple[str, ...]:
    """Names that the Hugging Face hub stored beside the column; empty when there are none."""
    try:
        stored = json.loads((schema.metadata or {})[b"huggingface"])
        return tuple(map(str, stored["info"]["features"][column]["names"]))
    except (KeyError, TypeError, ValueError):
        return ()
