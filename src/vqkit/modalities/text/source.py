"""Opens texts: lines or pieces of files, whole files, or rows of a table."""

import hashlib
from bisect import bisect_right
from itertools import accumulate
from pathlib import Path

import numpy as np

from vqkit.data import FileKind, Record, Source, open_source, open_splits
from vqkit.data.folder import FolderSource
from vqkit.data.labels import Relabelled
from vqkit.data.record import numbered_id
from vqkit.data.split import EVALUATION, TRAIN

TEXTS = FileKind("text", "texts", ".txt", is_text=True)
NEWLINE = ord("\n")
Columns = tuple[str | None, str | None]


class PieceSource:
    """The lines of text files, or pieces of so many bytes, which give the files when joined.

    A line ends with its newline, and holds it. A piece ends before the byte that begins a
    character, so that it may be up to 3 bytes shorter.

    Args:
        files: What is cut.
        chunk: Most bytes of a piece; None for lines.
    """

    def __init__(self, files: FolderSource, chunk: int | None) -> None:
        self.files, self.chunk = files, chunk
        self.labels = files.labels
        self.ends = [self._cut(files.file(index)) for index in range(len(files))]
        self._starts = [0, *accumulate(map(len, self.ends))]

    def _cut(self, path: Path) -> np.ndarray:
        """Where the pieces of a file end; one that is empty has one, so that it is spoken of."""
        size = path.stat().st_size
        if not size:
            return np.zeros(1, dtype=np.int64)
        data = np.memmap(path, np.uint8, "r")
        if self.chunk is None:
            ends = np.flatnonzero(data == NEWLINE) + 1
            return ends if len(ends) and ends[-1] == size else np.append(ends, size)
        return piece_ends(data, self.chunk)

    @property
    def fingerprint(self) -> str:
        facts = f"{self.files.fingerprint} {self.chunk}"
        return hashlib.sha256(facts.encode()).hexdigest()

    @property
    def item_shape(self) -> None:
        return None

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: int) -> Record:
        file, start, end = self._place(index)
        with self.files.file(file).open("rb") as opened:
            opened.seek(start)
            return Record(self.id(index), opened.read(end - start), self.label(index))

    def id(self, index: int) -> str:
        file, number = self._number(index)
        name = numbered_id(number, len(self.ends[file]))
        return name if len(self.files) == 1 else f"{self.files.id(file)}/{name}"

    def label(self, index: int) -> int | None:
        return self.files.label(self._number(index)[0])

    def describe(self, index: int) -> str:
        file, start, end = self._place(index)
        number = self._number(index)[1]
        where = f"line {number + 1}" if self.chunk is None else f"bytes {start} to {end}"
        return f"{self.files.describe(file)} {where}"

    def _number(self, index: int) -> tuple[int, int]:
        """The file of a piece, and its number there."""
        file = bisect_right(self._starts, index) - 1
        return file, index - self._starts[file]

    def _place(self, index: int) -> tuple[int, int, int]:
        """The file of a piece, and the bytes where it begins and ends."""
        file, number = self._number(index)
        ends = self.ends[file]
        return file, int(ends[number - 1]) if number else 0, int(ends[number])


def piece_ends(data: np.ndarray, chunk: int) -> np.ndarray:
    """Where pieces of at most so many bytes end, none of them inside of a character.

    Args:
        data: UTF-8. (N,) uint8
        chunk: At least 4.

    Returns:
        The last is N. (M,) int64
    """
    ends, end = [], 0
    while end + chunk < len(data):
        end += chunk
        shorter = end
        while shorter > end - 3 and data[shorter] & 0xC0 == 0x80:  # inside of a character
            shorter -= 1
        end = shorter if data[shorter] & 0xC0 != 0x80 else end  # no UTF-8, which is said later
        ends.append(end)
    return np.array([*ends, len(data)], dtype=np.int64)


def open_texts(path: str, chunk: int | None, columns: Columns) -> Source:
    """The texts of one split.

    A file is cut into lines or pieces, a folder into its files, or into pieces of them.

    Args:
        path: As for ``data.path``.
        chunk: Most bytes of a piece; None to cut nothing but a single file, into lines.
        columns: Of the texts and of their labels, for Parquet.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it cannot be read as texts.
    """
    column, label_column = columns
    source = open_source(path, column=column, label_column=label_column, kind=TEXTS)
    return cut(source, path, chunk)


def cut(source: Source, path: str, chunk: int | None) -> Source:
    """Pieces of the files of a source, where there is something to cut."""
    if isinstance(source, Relabelled):
        return Relabelled(cut(source.source, path, chunk), source.labels)
    if isinstance(source, FolderSource):
        whole = chunk is None and Path(path).expanduser().is_dir()
        return source if whole else PieceSource(source, chunk)
    if chunk is not None:
        raise ValueError(
            f"data.chunk is {chunk}, but {path} is a table, whose rows are texts; leave it out"
        )
    return source


def open_text_splits(
    path: str, eval_path: str | None, chunk: int | None, columns: Columns
) -> tuple[Source, Source | None]:
    """The texts for training and, where they are apart from the start, for evaluation.

    Args:
        path: As for ``data.path``.
        eval_path: Those for evaluation; None for a split found in ``path``, if any.
        chunk: As for ``open_texts``.
        columns: As for ``open_texts``.
    """
    if eval_path is None and (files := split_files(path)):
        path, eval_path = files
    column, label_column = columns
    names = {"column": column, "label_column": label_column}
    train, evaluation = open_splits(path, eval_path, kind=TEXTS, **names)
    if evaluation is None:
        return cut(train, path, chunk), None
    return cut(train, path, chunk), cut(evaluation, eval_path or path, chunk)


def split_files(path: str) -> tuple[str, str] | None:
    """The files for training and for evaluation in a folder that holds no other texts."""
    folder = Path(path).expanduser()
    files = {file.stem.lower(): str(file) for file in sorted(folder.glob("*.txt"))}
    train = next((files[name] for name in TRAIN if name in files), None)
    evaluation = next((files[name] for name in EVALUATION if name in files), None)
    known = all(name in (*TRAIN, *EVALUATION) for name in files)
    return (train, evaluation) if train and evaluation and known else None
