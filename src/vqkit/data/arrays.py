"""Arrays whose first axis is items: npy, npz, idx and the digits."""

import hashlib
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from vqkit.data.digits import read_digit_classes, read_digits
from vqkit.data.fingerprint import fingerprint_files
from vqkit.data.idx import labels_beside, read_idx
from vqkit.data.labels import number_classes
from vqkit.data.record import Record, numbered_id


class ArraySource:
    """The rows of an array.

    Args:
        where: The file, or what stands for it, for messages.
        read: Reads the array (N, ...), in each process that is not forked from one that has.
        classes: The class of each row, numbers or text; None without labels. (N,)
        files: What the fingerprint is made of; without files, the values.
        facts: What else decides the data, such as the array's name.

    Raises:
        ValueError: If there are no rows, or not one label for each.
    """

    def __init__(
        self,
        where: str,
        read: Callable[[], np.ndarray],
        *,
        classes: np.ndarray | None = None,
        files: tuple[Path, ...] = (),
        facts: tuple[str, ...] = (),
    ) -> None:
        self._where, self._read, self._files, self._facts = where, read, files, facts
        self._shape = self._array.shape
        if len(self._shape) < 2 or not self._shape[0]:
            needed = "an array of one or more items, such as rows of numbers (N, D)"
            raise ValueError(f"{where} has shape {self._shape}; give {needed}")
        self.labels: tuple[str, ...] = ()
        self._classes: list[int] | None = None
        if classes is not None:
            self.labels, self._classes = number_classes(_plain(where, classes, len(self)))

    @cached_property
    def _array(self) -> np.ndarray:
        return self._read()

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        if self._files:
            return fingerprint_files({path.name: path for path in self._files}, *self._facts)
        values = hashlib.sha256(np.ascontiguousarray(self._array).tobytes()).hexdigest()
        return fingerprint_files({}, values, str(self._shape), str(self._classes))

    @property
    def item_shape(self) -> tuple[int, ...]:
        return self._shape[1:]

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: int) -> Record:
        return Record(self.id(index), self._array[index], self.label(index))

    def id(self, index: int) -> str:
        return numbered_id(index, len(self))

    def label(self, index: int) -> int | None:
        return None if self._classes is None else self._classes[index]

    def describe(self, index: int) -> str:
        return f"{self._where} row {index}"

    def __getstate__(self) -> dict[str, Any]:
        # Reading again is cheaper than sending the array, and a memory map stays one.
        return {name: value for name, value in vars(self).items() if name != "_array"}


def open_digits() -> ArraySource:
    """The digits of scikit-learn, 8 x 8 in grey."""
    return ArraySource("digits", read_digits, classes=read_digit_classes())


def open_idx(path: Path) -> ArraySource:
    """An idx file of images, with the file of labels that lies beside it, if any."""
    beside = labels_beside(path)
    classes = None if beside is None else read_idx(beside)
    files = (path,) if beside is None else (path, beside)
    return ArraySource(str(path), partial(read_idx, path), classes=classes, files=files)


def open_npy(path: Path) -> ArraySource:
    """An npy file, mapped into memory."""
    return ArraySource(str(path), partial(_read_npy, path), files=(path,))


def open_npz(path: Path, column: str | None, label_column: str | None) -> ArraySource:
    """An array of an npz file, and another for the labels.

    Args:
        path: The file.
        column: Name of the array; may be left out where there is only one beside the labels.
        label_column: Name of the labels' array; None without labels.

    Raises:
        ValueError: If the file cannot be read, or has no such arrays.
    """
    with _open_npz(path) as arrays:
        names: list[str] = arrays.files
    found = f"{path} has the arrays {', '.join(names)}"
    for key, name in (("column", column), ("label_column", label_column)):
        if name is not None and name not in names:
            raise ValueError(f"{key} is {name!r}, but {found}; set data.{key} to one of them")
    fits = [name for name in names if name != label_column]
    if column is None and len(fits) != 1:
        raise ValueError(f"{found}; set data.column to one of them")
    column = column or fits[0]
    return ArraySource(
        f"{path}[{column}]",
        partial(_read_npz, path, column),
        classes=None if label_column is None else _read_npz(path, label_column),
        files=(path,),
        facts=(column, label_column or ""),
    )


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise _damaged(path, "npy", error) from None


@contextmanager
def _open_npz(path: Path) -> Iterator[Any]:
    """The arrays of a file by name, while it is open."""
    with path.open("rb") as file:
        try:
            with np.load(file, allow_pickle=False) as arrays:
                yield arrays
        except (ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise _damaged(path, "npz", error) from None


def _read_npz(path: Path, name: str) -> np.ndarray:
    with _open_npz(path) as arrays:
        return arrays[name]


def _damaged(path: Path, kind: str, error: Exception) -> ValueError:
    """What to say of a file that numpy does not read, on one line."""
    reason = " ".join(str(error).split())
    if "Object arrays" in reason or "Python objects" in reason:
        return ValueError(f"{path} holds Python objects; save an array of numbers instead")
    why = "" if "pickle" in reason else f" ({reason})"  # numpy's guess at any other file
    return ValueError(f"{path} is no {kind} file, or is cut{why}; restore it from a copy")


def _plain(where: str, classes: np.ndarray, count: int) -> list[int] | list[str]:
    """Labels as plain numbers or text, one for each row."""
    if classes.ndim == 2 and classes.shape[1] == 1:
        classes = classes[:, 0]
    if classes.shape != (count,):
        shape = classes.shape
        raise ValueError(f"{where} has {count} rows, its labels shape {shape}; give one per row")
    if classes.dtype.kind not in "iubU":
        raise ValueError(f"{where}: the labels are {classes.dtype}; give integers or text")
    return classes.tolist()
