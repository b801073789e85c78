"""Opens clips: films, animations and images as files, and folders of frames."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from vqkit.data import FileKind, Record, Source, open_source, open_splits
from vqkit.data.folder import FolderSource
from vqkit.data.kinds import IMAGES
from vqkit.data.labels import Relabelled, join_classes, number_classes

FILMS = FileKind("film", "films", ".apng .avi .gif .m4v .mkv .mov .mp4 .mpeg .mpg .ogv .webm .wmv")
STILLS = " ".join(end for end in IMAGES.known.split() if end != ".gif")
CLIPS = FileKind("clip", "clips", f"{FILMS.known} {STILLS}")
Images = Literal["frames", "stills"]
Columns = tuple[str | None, str | None]


class ClipSource:
    """Films, and folders of images as clips of so many frames.

    A folder that holds images, and no films beside them, is a clip whose frames they are, in the
    order of the numbers in their names. An image beside films is a clip of one frame. The first
    folder above a clip is its label; where some clip lies in none, there are no labels.

    Args:
        files: Films and images of a folder.
    """

    def __init__(self, files: FolderSource) -> None:
        self.files = files
        inside: dict[str, list[int]] = {}
        for index in range(len(files)):
            inside.setdefault(files.id(index).rpartition("/")[0], []).append(index)
        self._clips: list[tuple[str, list[int], bool]] = []
        for folder, indices in inside.items():
            if any(FILMS.has(files.id(index)) for index in indices):
                self._clips += [(files.id(index), [index], False) for index in indices]
            else:
                ordered = sorted(indices, key=lambda index: natural(files.id(index)))
                name = folder or files.path.resolve().name or "clip"
                while not folder and name in inside:  # two clips may not share a name
                    name += "-"
                self._clips.append((name, ordered, True))
        self._clips.sort(key=lambda clip: clip[0])
        tops = [name.partition("/")[0] for name, _, _ in self._clips if "/" in name]
        self.labels: tuple[str, ...] = ()
        self._classes: list[int] | None = None
        if len(tops) == len(self._clips):
            self.labels, self._classes = number_classes(tops)

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"{self.files.fingerprint} frames".encode()).hexdigest()

    @property
    def item_shape(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self._clips)

    def __getitem__(self, index: int) -> Record:
        name, indices, frames = self._clips[index]
        if not frames:
            return Record(name, self.files[indices[0]].value, self.label(index))
        paths = [self.files.file(number) for number in indices]
        value = tuple((path.name, path.read_bytes()) for path in paths)
        return Record(name, value, self.label(index))

    def id(self, index: int) -> str:
        return self._clips[index][0]

    def label(self, index: int) -> int | None:
        return None if self._classes is None else self._classes[index]

    def describe(self, index: int) -> str:
        _, indices, frames = self._clips[index]
        where = self.files.describe(indices[0])
        return where.rpartition("/")[0] if frames else where


def natural(name: str) -> list[tuple[int, str]]:
    """What orders names by the numbers in them: frame9 before frame10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def open_clips(path: str, images: Images, columns: Columns) -> Source:
    """The clips of one split.

    Args:
        path: As for ``data.path``.
        images: Whether images in folders of their own are frames of one clip, or clips.
        columns: Of the clips and of their labels, for Parquet.

    Raises:
        FileNotFoundError: If nothing is there.
        ValueError: If it cannot be read as clips.
    """
    column, label_column = columns
    source = open_source(path, column=column, label_column=label_column, kind=CLIPS)
    return grouped(source, path, images)


def open_clip_splits(
    path: str, eval_path: str | None, images: Images, columns: Columns
) -> tuple[Source, Source | None]:
    """The clips for training and, where they are apart from the start, for evaluation.

    Args:
        path: As for ``data.path``.
        eval_path: Those for evaluation; None for a split found in ``path``, if any.
        images: As for ``open_clips``.
        columns: As for ``open_clips``.
    """
    names = dict(zip(("column", "label_column"), columns, strict=True))
    train, evaluation = open_splits(path, eval_path, kind=CLIPS, **names)
    train = grouped(train, path, images)
    if evaluation is None:
        return train, None
    evaluation = grouped(evaluation, eval_path or path, images)
    if train.labels and evaluation.labels:
        labels = join_classes(train.labels, evaluation.labels)
        return _numbered(train, labels), _numbered(evaluation, labels)
    return train, evaluation


def grouped(source: Source, path: str, images: Images) -> Source:
    """The clips of the files of a source, where it is a folder and images are frames."""
    if images == "stills" or Path(path).expanduser().is_file():
        return source
    if isinstance(source, Relabelled) and isinstance(source.source, FolderSource):
        source = source.source
    return ClipSource(source) if isinstance(source, FolderSource) else source


def _numbered(source: Source, labels: Sequence[str]) -> Source:
    return source if source.labels == tuple(labels) else Relabelled(source, labels)
