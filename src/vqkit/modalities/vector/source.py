"""Opens rows of numbers: npy, npz, csv, Parquet and idx files."""

import csv
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vqkit.data import Source
from vqkit.data.arrays import ArraySource, open_idx, open_npy, open_npz
from vqkit.data.labels import Relabelled, join_classes
from vqkit.data.split import EVALUATION, TRAIN, splits_of

LABELS = ("label", "labels", "class", "target", "y")
SUFFIXES = (".npy", ".npz", ".csv", ".parquet")


def open_vectors(
    path: str, eval_path: str | None, column: str | None, label_column: str | None
) -> tuple[Source, Source | None]:
    """The vectors for training and, where they are apart from the start, for evaluation.

    Args:
        path: As for ``data.path``.
        eval_path: Those for evaluation; None for a split found in ``path``, if any.
        column: Array or column of the vectors; None for the only one.
        label_column: Array or column of the classes; None for the usual names.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it cannot be read as rows of numbers.
    """
    names, more = (column, label_column), None
    if eval_path is not None:
        train, more = open_one(Path(path), *names), open_one(Path(eval_path), *names)
    elif pair := arrays_of_splits(Path(path), column):
        train, more = (open_npz(Path(path), *each) for each in pair)
    elif found := splits_in(path):
        train, more = (open_one(found[part], *names) for part in ("train", "evaluation"))
    else:
        train = open_one(Path(path), *names)
    if more is not None and train.labels and more.labels and train.labels != more.labels:
        labels = join_classes(train.labels, more.labels)
        return Relabelled(train, labels), Relabelled(more, labels)
    return train, more


def splits_in(path: str) -> dict[str, Path]:
    """The files for training and for evaluation in a folder; empty where there are none."""
    if found := splits_of(path):
        return {part: Path(place) for part, place in found.items()}
    folder = Path(path)
    files = sorted(file for file in folder.glob("*") if file.suffix in SUFFIXES)
    by_word = {file.stem.split("-")[0].split("_")[0].lower(): file for file in files}
    train = next((by_word[word] for word in TRAIN if word in by_word), None)
    evaluation = next((by_word[word] for word in EVALUATION if word in by_word), None)
    if train is None or evaluation is None:
        return {}
    return {"train": train, "evaluation": evaluation}


def arrays_of_splits(path: Path, column: str | None) -> list[tuple[str, str | None]] | None:
    """Names of the arrays of vectors and of classes, of both splits; None where there are none.

    A file of ``train`` and ``test``, or of ``train_x`` and ``test_x`` with classes ``train_y``.
    """
    if path.suffix != ".npz" or not path.is_file() or column is not None:
        return None
    try:
        with np.load(path, allow_pickle=False) as arrays:
            names: list[str] = arrays.files
    except (ValueError, OSError):
        return None  # the reader says what is wrong with it
    for tail, classes in (("_x", "_y"), ("", "_y"), ("", "_label"), ("", "_labels")):
        for word in EVALUATION:
            if {f"train{tail}", f"{word}{tail}"} <= set(names):
                labelled = {f"train{classes}", f"{word}{classes}"} <= set(names)
                return [(s + tail, s + classes if labelled else None) for s in ("train", word)]
    return None


def open_one(path: Path, column: str | None, label_column: str | None) -> Source:
    """The rows of one file, or of the only file of a folder.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it cannot be read as rows of numbers.
    """
    path = path.expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix in SUFFIXES)
        if len(files) != 1:
            found = f"{path} holds {len(files)} files of vectors"
            raise ValueError(f"{found}; name one that ends in {', '.join(SUFFIXES)}")
        path = files[0]
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; name a file that ends in .npy, .npz or .csv")
    if path.suffix in (".csv", ".parquet"):
        return open_table(path, column, label_column)
    if path.suffix == ".npz":
        source = open_npz(path, column, label_column)
    else:
        for key, name in (("column", column), ("label_column", label_column)):
            if name is not None:
                raise ValueError(f"{key} is {name!r}, but {path} has no columns; leave {key} out")
        source = open_npy(path) if path.suffix == ".npy" else open_idx(path)
    kind = np.asarray(source[0].value).dtype
    if kind.kind not in "fiub":
        raise ValueError(f"{path} holds {kind}; give an array of numbers (N, D)")
    return source


def open_table(path: Path, column: str | None, label_column: str | None) -> ArraySource:
    """The rows of a csv or Parquet file.

    Args:
        path: The file; of csv the first line has names.
        column: A column of lists; None for all columns of numbers.
        label_column: Column of the classes; None for one of the usual names, if there.

    Raises:
        ValueError: If it is damaged, or has no such columns.
    """
    table = read_csv(path) if path.suffix == ".csv" else read_parquet(path)
    names = table.column_names
    for key, name in (("column", column), ("label_column", label_column)):
        if name is not None and name not in names:
            have = f"{path} has the columns {', '.join(names)}"
            raise ValueError(f"{key} is {name!r}, but {have}; set data.{key} to one of them")
    label = label_column or next((name for name in LABELS if name in names), None)
    chosen = [column] if column else vector_columns(path, table, label)
    classes = None if label is None else np.asarray(table[label].to_pylist())
    return ArraySource(
        str(path),
        partial(values_of, path, chosen),
        classes=classes,
        files=(path,),
        facts=(*chosen, label or ""),
    )


def vector_columns(path: Path, table: pa.Table, label: str | None) -> list[str]:
    """The columns of numbers, or the only column of lists."""
    others = [name for name in table.column_names if name != label]
    lists = [name for name in others if is_list(table.schema.field(name).type)]
    numbers = [name for name in others if is_number(table.schema.field(name).type)]
    if lists and (len(lists) > 1 or numbers):
        raise ValueError(
            f"{path} has columns of lists ({', '.join(lists)}); set data.column to one"
        )
    if not lists and not numbers:
        raise ValueError(f"{path} has no column of numbers; give columns of numbers, or of lists")
    return lists or numbers


def values_of(path: Path, columns: list[str]) -> np.ndarray:
    """The numbers of some columns of a table. (N, D) float32"""
    table = read_csv(path) if path.suffix == ".csv" else read_parquet(path)
    if len(columns) == 1 and is_list(table.schema.field(columns[0]).type):
        rows = table[columns[0]].to_pylist()
        lengths = {None if each is None else len(each) for each in rows}
        if len(lengths) != 1 or None in lengths:
            raise ValueError(
                f"column {columns[0]!r} of {path} has rows of unlike lengths; pad them"
            )
        return np.asarray(rows, dtype=np.float32)
    parts = [table[name].to_numpy().astype(np.float32) for name in columns]  # null becomes NaN
    return np.stack(parts, axis=1)


def read_csv(path: Path) -> pa.Table:
    """A csv file whose first line has names, or numbers and then no names."""
    from pyarrow import csv as reader

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = next(csv.reader(file), [])
        plain = bool(first) and all(is_float(cell) for cell in first)
        named = reader.ReadOptions(autogenerate_column_names=plain)
        return reader.read_csv(path, read_options=named)
    except (pa.ArrowException, UnicodeDecodeError, csv.Error) as error:
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no table of numbers ({reason}); mend that line") from None


def read_parquet(path: Path) -> pa.Table:
    """A Parquet file."""
    try:
        with pq.ParquetFile(path) as file:
            return file.read()
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is cut or no Parquet file ({reason}); copy it again") from None


def is_float(cell: str) -> bool:
    """Whether a text is a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def is_number(kind: pa.DataType) -> bool:
    """Whether a column holds numbers."""
    return pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)


def is_list(kind: pa.DataType) -> bool:
    """Whether a column holds lists."""
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)
