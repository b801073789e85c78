"""Arrays whose first axis is items: npy, npz, idx and the digits."""

from collections.abc import Callable
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from vqkit.data.digits import read_digits
from vqkit.data.fingerprint import fingerprint_files
from vqkit.data.idx import labels_beside, read_idx
from vqkit.data.labels import number_classes
from vqkit.data.record import Record


class ArraySource:
    """The rows of an array.

    Args:
        where: The file, or what stands for it in messages.
        read: Reads the array (N, ...); called once in every process that needs it.
        classes: The class of each row, numbers or text; None without labels. (N,)
        files: What the fingerprint is made of.

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
    ) -> None:
        self._where, self._read, self._files = where, read, files
        shape = self._array.shape
        if len(shape) < 2 or not shape[0]:
            raise ValueError(f"{where} has shape {shape}; give an array of one or more items")
        self._shape = shape
        self.labels: tuple[str, ...] = ()
        self._classes: list[int] | None = None
        if classes is not None:
            self.labels, self._classes = number_classes(_plain(where, classes, shape[0]))

    @cached_property
    def _array(self) -> np.ndarray:
        return self._read()

    @cached_property
    def fingerprint(self) -> str:
        if not self._files:
            return fingerprint_files({}, self._where, str(self._shape))
        return fingerprint_files({path.name: path for path in self._files}, self._where_inside)

    @property
    def _where_inside(self) -> str:
        """What of the file is read, without the folder that it lies in."""
        return self._where.removeprefix(str(self._files[0].parent))

    @property
    def item_shape(self) -> tuple[int, ...]:
        return self._shape[1:]

    def __len__(self) -> int:
        return self._shape[0]

    def __getitem__(self, index: int) -> Record:
        label = None if self._classes is None else self._classes[index]
        return Record(f"{index:0{len(str(len(self) - 1))}d}", self._array[index], label)

    def describe(self, index: int) -> str:
        return f"{self._where} row {index}"

    def __getstate__(self) -> dict[str, Any]:
        # A process that is not forked reads the array again: cheaper than a pipe, and memory maps
        # stay maps.
        return {name: value for name, value in vars(self).items() if name != "_array"}


def open_digits() -> ArraySource:
    """scikit-learn's digits, 8 x 8 in grey."""
    return ArraySource("digits", _digit_images, classes=read_digits()[1])


def _digit_images() -> np.ndarray:
    return read_digits()[0]


def open_idx(path: Path) -> ArraySource:
    """An idx file of images, with the labels file that lies beside it, if any."""
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
        column: Name of the array; may be left out where only one has more than one axis.
        label_column: Name of the labels' array; None without labels.
    """
    with _open_npz(path) as arrays:
        names = arrays.files
        if column is None:
            fits = [name for name in names if name != label_column]
            if len(fits) != 1:
                raise ValueError(f"{path} has the arrays {', '.join(names)}; name one as column")
            column = fits[0]
        for key, name in (("column", column), ("label_column", label_column)):
            if name is not None and name not in names:
                raise ValueError(f"{key} is {name!r}, but {path} has {', '.join(names)}")
    classes = None if label_column is None else _read_npz(path, label_column)
    where = f"{path}[{column}]"
    return ArraySource(where, partial(_read_npz, path, column), classes=classes, files=(path,))


def _read_npy(path: Path) -> np.ndarray:
    try:
        return np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a readable npy file ({error}); write it again") from None


def _open_npz(path: Path) -> Any:
    import zipfile

    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} is not a readable npz file ({error}); write it again") from None


def _read_npz(path: Path, name: str) -> np.ndarray:
    import zipfile
    import zlib

    with _open_npz(path) as arrays:
        try:
            return arrays[name]
        except (ValueError, EOFError, zlib.error, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: the array {name} cannot be read ({error})") from None


def _plain(where: str, classes: np.ndarray, count: int) -> list[int] | list[str]:
    """Labels as plain numbers or text, one for each row."""
    if classes.ndim == 2 and classes.shape[1] == 1:
        classes = classes[:, 0]
    if classes.shape != (count,):
        raise ValueError(
            f"{where} has {count} rows, its labels shape {classes.shape}; give one each"
        )
    if classes.dtype.kind not in "iubU":
        raise ValueError(f"{where}: the labels are {classes.dtype}; give integers or text")
    return classes.tolist()
