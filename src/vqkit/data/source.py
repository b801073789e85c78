"""Opens a source of data by its path."""

import glob
from dataclasses import dataclass
from pathlib import Path

from vqkit.data.arrays import open_digits, open_idx, open_npy, open_npz
from vqkit.data.folder import FolderSource, list_files
from vqkit.data.hub import HubSource
from vqkit.data.kinds import IMAGES, FileKind
from vqkit.data.labels import Relabelled, join_classes
from vqkit.data.parquet import ParquetSource
from vqkit.data.record import Record, Source
from vqkit.data.split import is_image_idx, splits_of

__all__ = ["Record", "Source", "open_source", "open_splits"]

ARRAYS = "or a .parquet, .npy, .npz, -idx3-ubyte or -idx3-ubyte.gz file"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What of the data is wanted.

    Attributes:
        column: Column of the items, for Parquet, npz and the hub; None for the only one.
        label_column: Column of the labels, as ``column``; None for the usual names.
        kind: Files that hold an item each.
    """

    column: str | None = None
    label_column: str | None = None
    kind: FileKind = IMAGES

    def known(self) -> str:
        """What can be read, for messages."""
        if self.kind is IMAGES:
            return f"a folder of images, {ARRAYS}"
        return f"a folder of {self.kind.items}, one of {self.kind.known}, or a .parquet file"

    def tables(self, root: Path, files: list[Path]) -> ParquetSource:
        """The rows of Parquet files below a folder."""
        text = self.kind.is_text
        return ParquetSource(root, files, self.column, self.label_column, text=text)

    def refuse_columns(self, path: str) -> None:
        """Raises ValueError if a column of data without columns is wanted."""
        for key in ("column", "label_column"):
            value = getattr(self, key)
            if value is not None:
                why = f"{path} has no columns; leave {key} out"
                raise ValueError(f"{key} is {value!r}, but {why}")


def open_source(
    path: str,
    *,
    column: str | None = None,
    label_column: str | None = None,
    kind: FileKind = IMAGES,
) -> Source:
    """Opens data for random access.

    Args:
        path: A folder of images, or of other files of one kind, whose sub-folders are labels; a
            Parquet file, a folder or a glob of them; of images also an idx file, plain or
            gzipped, an npy or npz file, and ``digits``; or ``hub:owner/name:split``.
        column: Column of the items, for Parquet, npz and the hub.
        label_column: Column of the labels, for Parquet, npz and the hub.
        kind: Files that hold an item each.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it cannot be read as data, or holds several splits.
    """
    if found := splits_of(path):
        raise ValueError(f"{path} holds several splits; name {' or '.join(found.values())}")
    return _open(path, Wanted(column, label_column, kind))


def open_splits(
    path: str,
    eval_path: str | None = None,
    *,
    column: str | None = None,
    label_column: str | None = None,
    kind: FileKind = IMAGES,
) -> tuple[Source, Source | None]:
    """Opens the data for training and, where they are apart from the start, for evaluation.

    Args:
        path: As for ``open_source``, or what holds splits: a folder with ``train`` and ``val`` or
            ``test`` in it, or with Parquet files ``train-*`` and ``test-*``, or with the four
            files of MNIST; or ``hub:owner/name``. Validation is preferred to test.
        eval_path: The data for evaluation; None: the split found in ``path``, if any.
        column: Column of the items.
        label_column: Column of the labels.
        kind: Files that hold an item each.

    Returns:
        Both sources, their classes numbered alike. The second is None when nothing says which
        items are for evaluation.
    """
    found, wanted = splits_of(path), Wanted(column, label_column, kind)
    train = _open(found.get("train", path), wanted)
    if eval_path is not None:
        evaluation = open_source(
            eval_path, column=column, label_column=label_column, kind=wanted.kind
        )
    elif found:
        evaluation = _open(found["evaluation"], wanted)
    else:
        return train, None
    if train.labels and evaluation.labels:
        labels = join_classes(train.labels, evaluation.labels)
        return _numbered(train, labels), _numbered(evaluation, labels)
    return train, evaluation


def _numbered(source: Source, labels: tuple[str, ...]) -> Source:
    return source if source.labels == labels else Relabelled(source, labels)


def _open(path: str, wanted: Wanted) -> Source:
    """Opens one split."""
    if path == "digits" and wanted.kind is IMAGES:
        wanted.refuse_columns(path)
        return open_digits()
    if path.startswith("hub:"):
        return HubSource(path, wanted.column, wanted.label_column)
    place = Path(path).expanduser()
    if place.is_dir():
        return _open_folder(place, wanted)
    if place.is_file():
        return _open_file(place, wanted)
    files = sorted(Path(name) for name in glob.glob(str(place), recursive=True))
    files = [file for file in files if file.suffix == ".parquet" and file.is_file()]
    if not files:
        raise FileNotFoundError(f"{path} is not there; name {wanted.known()}")
    root = next(parent for parent in files[0].parents if all(parent in f.parents for f in files))
    return wanted.tables(root, files)


def _open_folder(folder: Path, wanted: Wanted) -> Source:
    names, kind = list_files(folder), wanted.kind
    tables = [folder / name for name in sorted(names) if name.endswith(".parquet")]
    arrays = [folder / name for name in names if kind is IMAGES and is_image_idx(name)]
    items = any(kind.has(name) for name in names)
    if tables and items:
        both = f"{kind.items} and Parquet files"
        raise ValueError(f"{folder} holds {both}; name one kind: {tables[0]}")
    if tables:
        return wanted.tables(folder, tables)
    if len(arrays) == 1 and not items:
        return _open_file(arrays[0], wanted)
    wanted.refuse_columns(str(folder))
    return FolderSource(folder, names, kind)


def _open_file(file: Path, wanted: Wanted) -> Source:
    if file.suffix == ".parquet":
        return wanted.tables(file.parent, [file])
    if wanted.kind is not IMAGES:
        wanted.refuse_columns(str(file))
        if wanted.kind.has(file.name):
            return FolderSource(file.parent, [file.name], wanted.kind)
    elif file.suffix == ".npz":
        return open_npz(file, wanted.column, wanted.label_column)
    else:
        wanted.refuse_columns(str(file))
        if file.suffix == ".npy":
            return open_npy(file)
        if "idx" in file.name:
            return open_idx(file)
    raise ValueError(f"{file} is no data that can be read; name {wanted.known()}")
