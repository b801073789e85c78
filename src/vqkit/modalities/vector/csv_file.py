"""Csv files of numbers: with names in the first line or without, and where a row stands."""

import csv
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa


def read_csv(path: Path) -> pa.Table:
    """A csv file whose first line has names, or numbers and then no names.

    Raises:
        ValueError: If it is empty, or no csv file.
    """
    from pyarrow import csv as reader

    try:
        if not path.read_bytes().strip():
            raise ValueError(f"{path} is no table of numbers: it is empty; give rows of numbers")
        named = reader.ReadOptions(autogenerate_column_names=not has_names(path))
        return reader.read_csv(path, read_options=named)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = unlike_lines(path) or f"({' '.join(str(error).split())[:200]})"
        raise ValueError(f"{path} is no table of numbers: {reason}; mend that line") from None


def has_names(path: Path) -> bool:
    """Whether the first line holds names."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        return not are_numbers(next(csv.reader(file), []))


def are_numbers(cells: Sequence[str]) -> bool:
    """Whether the first line of a csv file is a row, and no names.

    Names that only count, 0, 1, 2 and so on, are what pandas writes for columns without any.
    """
    counted = len(cells) > 1 and cells == [str(number) for number in range(len(cells))]
    return bool(cells) and not counted and all(map(is_float, cells))


def is_float(cell: str) -> bool:
    """Whether a text is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def nulls() -> frozenset[str]:
    """The words that stand for no value."""
    from pyarrow import csv as reader

    return frozenset(reader.ConvertOptions().null_values)


def unlike_lines(path: Path) -> str | None:
    """What is wrong with the first line of another number of columns; None without such a line."""
    first = None
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            for cells in filter(None, rows := csv.reader(file)):
                first = first or (len(cells), rows.line_num)
                if len(cells) != first[0]:
                    found = f"{len(cells)} column{'s' * (len(cells) > 1)}"
                    return f"line {rows.line_num} has {found}, line {first[1]} has {first[0]}"
    except (UnicodeDecodeError, csv.Error):
        return None
    return None


def line_of(path: Path, row: int) -> int:
    """The line of a row, counted from 1 as an editor does, with names and empty lines."""
    return int(_lines(path, path.stat().st_mtime_ns)[row])


@lru_cache(maxsize=2)
def _lines(path: Path, changed: int) -> np.ndarray:
    """The lines of all rows of a file that was changed at that time. (N,) int64"""
    with path.open(encoding="utf-8-sig") as file:
        found = [number for number, line in enumerate(file, start=1) if line != "\n"]
    return np.array(found[1:] if has_names(path) else found, dtype=np.int64)
