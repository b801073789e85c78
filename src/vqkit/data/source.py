"""Opens a source of data by its path."""

import glob
from pathlib import Path

from vqkit.data.arrays import open_digits, open_idx, open_npy, open_npz
from vqkit.data.folder import FolderSource, is_image, list_files
from vqkit.data.hub import HubSource
from vqkit.data.labels import Relabelled, join_classes
from vqkit.data.parquet import ParquetSource
from vqkit.data.record import Record, Source
from vqkit.data.split import is_image_idx, splits_of

__all__ = ["Record", "Source", "open_source", "open_splits"]

KINDS = "a folder of images, or a .parquet, .npy, .npz, -idx3-ubyte or -idx3-ubyte.gz file"


def open_source(path: str, *, column: str | None = None, label_column: str | None = None) -> Source:
    """Opens data for random access.

    Args:
        path: A folder of images, whose sub-folders are labels; a Parquet file, a folder or a glob
            of them; an idx file of images, plain or gzipped; an npy or npz file; ``digits``;
            or ``hub:owner/name:split``.
        column: Column of the items, for Parquet, npz and the hub.
        label_column: Column of the labels, for Parquet, npz and the hub.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it cannot be read as data, or holds several splits.
    """
    if found := splits_of(path):
        raise ValueError(f"{path} holds several splits; name {' or '.join(found.values())}")
    return _open(path, column, label_column)


def open_splits(
    path: str,
    eval_path: str | None = None,
    *,
    column: str | None = None,
    label_column: str | None = None,
) -> tuple[Source, Source | None]:
    """Opens the data for training and, where they are apart from the start, for evaluation.

    Args:
        path: As for ``open_source``, or what holds splits: a folder with ``train`` and ``val`` or
            ``test`` in it, or with Parquet files ``train-*`` and ``test-*``, or with the four
            files of MNIST; or ``hub:owner/name``. Validation is preferred to test.
        eval_path: The data for evaluation; None: the split found in ``path``, if any.
        column: Column of the items.
        label_column: Column of the labels.

    Returns:
        Both sources, their classes numbered alike. The second is None when nothing says which
        items are for evaluation.
    """
    found = splits_of(path)
    train = _open(found.get("train", path), column, label_column)
    if eval_path is not None:
        evaluation = open_source(eval_path, column=column, label_column=label_column)
    elif found:
        evaluation = _open(found["evaluation"], column, label_column)
    else:
        return train, None
    if train.labels and evaluation.labels:
        labels = join_classes(train.labels, evaluation.labels)
        return _numbered(train, labels), _numbered(evaluation, labels)
    return train, evaluation


def _numbered(source: Source, labels: tuple[str, ...]) -> Source:
    return source if source.labels == labels else Relabelled(source, labels)


def _open(path: str, column: str | None, label_column: str | None) -> Source:
    """Opens one split."""
    if path == "digits":
        _refuse_columns(path, column, label_column)
        return open_digits()
    if path.startswith("hub:"):
        return HubSource(path, column, label_column)
    place = Path(path).expanduser()
    if place.is_dir():
        return _open_folder(place, column, label_column)
    if place.is_file():
        return _open_file(place, column, label_column)
    files = sorted(Path(name) for name in glob.glob(str(place), recursive=True))
    files = [file for file in files if file.suffix == ".parquet" and file.is_file()]
    if not files:
        raise FileNotFoundError(f"{path} is not there; name {KINDS}")
    root = next(parent for parent in files[0].parents if all(parent in f.parents for f in files))
    return ParquetSource(root, files, column, label_column)


def _open_folder(folder: Path, column: str | None, label_column: str | None) -> Source:
    names = list_files(folder)
    tables = [folder / name for name in sorted(names) if name.endswith(".parquet")]
    arrays = [folder / name for name in names if is_image_idx(name)]
    images = any(is_image(name) for name in names)
    if tables and images:
        raise ValueError(f"{folder} holds images and Parquet files; name one kind: {tables[0]}")
    if tables:
        return ParquetSource(folder, tables, column, label_column)
    if len(arrays) == 1 and not images:
        return _open_file(arrays[0], column, label_column)
    _refuse_columns(str(folder), column, label_column)
    return FolderSource(folder, names)


def _open_file(file: Path, column: str | None, label_column: str | None) -> Source:
    if file.suffix == ".parquet":
        return ParquetSource(file.parent, [file], column, label_column)
    if file.suffix == ".npz":
        return open_npz(file, column, label_column)
    _refuse_columns(str(file), column, label_column)
    if file.suffix == ".npy":
        return open_npy(file)
    if "idx" in file.name:
        return open_idx(file)
    raise ValueError(f"{file} is no data that can be read; name {KINDS}")


def _refuse_columns(path: str, column: str | None, label_column: str | None) -> None:
    for key, value in (("column", column), ("label_column", label_column)):
        if value is not None:
            raise ValueError(f"{key} is {value!r}, but {path} has no columns; leave {key} out")
