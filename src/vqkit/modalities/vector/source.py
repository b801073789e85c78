"""Opens rows of numbers: npy, npz, csv, Parquet and idx files."""

import glob
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from vqkit.data import Source
from vqkit.data.arrays import ArraySource, open_idx, open_npy, open_npz
from vqkit.data.labels import Relabelled, join_classes
from vqkit.data.record import Record
from vqkit.data.split import EVALUATION, TRAIN, splits_of
from vqkit.modalities.vector.table import LABELS, Values, Wanted, first_of, place_of, read_table

TABLES = (".csv", ".parquet")
SUFFIXES = (".npy", ".npz", *TABLES)
KNOWN = "an .npy, .npz, .csv, .parquet or idx file"


class Rows:
    """Rows of an array, each of which has to be looked at: it may hold what is no finite number.

    Args:
        source: The array.
        ids: The name of each row; None for their numbers.
        where: The csv file, whose lines are counted; None for the numbers of rows.

    Raises:
        ValueError: If it holds no numbers.
    """

    item_shape: None = None

    def __init__(
        self, source: ArraySource, ids: Sequence[str] | None = None, where: str | None = None
    ) -> None:
        first = np.asarray(source[0].value)
        if first.dtype.kind not in "fiub" or not first.size:
            holds = f"{first.dtype}" if first.size else "rows without a number"
            place = source.describe(0).removesuffix(" row 0")
            raise ValueError(f"{place} holds {holds}; give an array of numbers (N, D)")
        self.source, self.ids, self.where = source, ids, where

    @property
    def labels(self) -> tuple[str, ...]:
        return self.source.labels

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        record = self.source[index]
        return Record(self.id(index), record.value, record.label)

    def id(self, index: int) -> str:
        # Not the source's own, which gets longer with the number of rows: names have to stay.
        return str(index) if self.ids is None else self.ids[index]

    def label(self, index: int) -> int | None:
        return self.source.label(index)

    def describe(self, index: int) -> str:
        if self.where is None:
            return self.source.describe(index)
        return f"{self.where} {place_of(self.where, index)}"


def open_vectors(
    path: str, eval_path: str | None = None, wanted: Wanted | None = None
) -> tuple[Source, Source | None]:
    """The vectors for training and, where they are apart from the start, for evaluation.

    Args:
        path: As for ``data.path``.
        eval_path: Those for evaluation; None for a split found in ``path``, if any.
        wanted: Arrays or columns; None for the usual ones.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it cannot be read as rows of numbers.
    """
    wanted = wanted or Wanted()
    if eval_path is not None:
        train, more = open_one(path, wanted), open_one(eval_path, wanted)
    elif wanted.column is None and (pair := arrays_of_splits(Path(path), wanted.label_column)):
        refuse_ids(Path(path), wanted)
        train, more = (Rows(open_npz(Path(path), *names)) for names in pair)
    elif found := splits_in(path):
        train, more = (open_one(found[part], wanted) for part in ("train", "evaluation"))
    else:
        return open_one(path, wanted), None
    if train.labels and more.labels and train.labels != more.labels:
        labels = join_classes(train.labels, more.labels)
        return Relabelled(train, labels), Relabelled(more, labels)
    return train, more


def splits_in(path: str) -> dict[str, str]:
    """The files for training and for evaluation in a folder; empty where there are none."""
    if found := splits_of(path):
        return found
    files = sorted(file for file in Path(path).glob("*") if file.suffix in SUFFIXES)
    by_word = {file.stem.split("-")[0].split("_")[0].lower(): str(file) for file in files}
    train = next((by_word[word] for word in TRAIN if word in by_word), None)
    evaluation = next((by_word[word] for word in EVALUATION if word in by_word), None)
    if train is None or evaluation is None:
        return {}
    return {"train": train, "evaluation": evaluation}


def arrays_of_splits(path: Path, label: str | None) -> list[tuple[str, str | None]] | None:
    """Names of the arrays of vectors and of classes, of both splits; None where there are none.

    A file of ``train`` and ``test``, or of ``train_x`` and ``test_x`` with classes ``train_y``.

    Args:
        path: The file.
        label: The classes, ``train_kind`` or ``kind`` for ``train_kind`` and ``test_kind``; None
            for those of the usual names, if there.

    Raises:
        ValueError: If one of the splits has no such classes.
    """
    names = names_of(path)
    for tail in ("_x", ""):
        for word in EVALUATION:
            if {f"train{tail}", f"{word}{tail}"} <= set(names):
                first, second = classes_of_splits(path, names, word, label)
                return [(f"train{tail}", first), (f"{word}{tail}", second)]
    return None


def classes_of_splits(
    path: Path, names: Sequence[str], word: str, label: str | None
) -> tuple[str, str] | tuple[None, None]:
    """Names of the arrays of classes of the splits ``train`` and ``word``."""
    ends = ("y", "label", "labels")
    if label is not None:
        ends = (label.removeprefix("train_").removeprefix(f"{word}_"),)
    for end in ends:
        if {f"train_{end}", f"{word}_{end}"} <= set(names):
            return f"train_{end}", f"{word}_{end}"
    if label is not None:
        have = f"label_column is {label!r}, but {path} has the arrays {', '.join(names)}"
        raise ValueError(f"{have}; set data.label_column to one that train and {word} both have")
    return None, None


def names_of(path: Path) -> list[str]:
    """The names of the arrays of an npz file; none where it cannot be read: the reader says why."""
    if path.suffix != ".npz" or not path.is_file():
        return []
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return arrays.files
    except (ValueError, OSError):
        return []


def open_one(path: str, wanted: Wanted) -> Source:
    """The rows of one file, of the only file of a folder, or of Parquet files that belong together.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it cannot be read as rows of numbers.
    """
    files = files_of(path)
    file = files[0]
    if file.suffix in TABLES:
        table = read_table(files, wanted)
        names = (*table.columns, wanted.label_column or "", wanted.id_column or "")
        rows = ArraySource(
            str(file) if len(files) == 1 else path,
            Values(files, wanted, table.values),
            classes=table.classes,
            files=tuple(files),
            facts=names,
        )
        return Rows(rows, table.ids, str(file) if file.suffix == ".csv" else None)
    if file.suffix == ".npz":
        refuse_ids(file, wanted)
        names = names_of(file)
        label = wanted.label_column or first_of(LABELS, names, {wanted.column})
        return Rows(open_npz(file, wanted.column, label))
    for key in ("column", "label_column", "id_column"):
        if (name := getattr(wanted, key)) is not None:
            raise ValueError(f"{key} is {name!r}, but {file} has no columns; leave data.{key} out")
    return Rows(open_npy(file) if file.suffix == ".npy" else open_idx(file))


def refuse_ids(file: Path, wanted: Wanted) -> None:
    """Raises ValueError if names are wanted of an npz file, whose vectors have none."""
    if wanted.id_column is not None:
        have = f"id_column is {wanted.id_column!r}, but {file} has no names of its vectors"
        raise ValueError(f"{have}; leave data.id_column out")


def files_of(path: str) -> list[Path]:
    """The file of a path, or the Parquet files of a folder or a glob."""
    place = Path(path).expanduser()
    if place.is_file():
        return [place]
    if place.is_dir():
        files = sorted(file for file in place.rglob("*") if file.suffix in SUFFIXES)
    else:
        files = sorted(map(Path, glob.glob(str(place), recursive=True)))
    if not files and not place.is_dir():
        raise FileNotFoundError(f"{path} is not there; name {KNOWN}")
    if len(files) != 1 and not (files and all(file.suffix == ".parquet" for file in files)):
        raise ValueError(f"{path} holds {len(files)} files of vectors; name one, {KNOWN}")
    return files
