"""A folder of files of one kind, whose sub-folders are labels."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

from vqkit.data.fingerprint import fingerprint_files
from vqkit.data.kinds import IMAGES, FileKind
from vqkit.data.labels import number_classes
from vqkit.data.record import Record


class FolderSource:
    """The files of one kind below a folder, in the order of their relative paths.

    The first folder of a relative path is the label; where some file lies in none, there are no
    labels. What begins with a dot is skipped; links are followed, but never back into a folder
    that they lie in.

    Args:
        path: The folder.
        names: What ``list_files`` gave, where that was called already.
        kind: The files that count.

    Raises:
        ValueError: If there are none.
    """

    def __init__(
        self, path: Path, names: Sequence[str] | None = None, kind: FileKind = IMAGES
    ) -> None:
        self.path = path
        found = list_files(path) if names is None else names
        self._names = sorted(name for name in found if kind.has(name))
        if not self._names:
            raise ValueError(f"{path} has no {kind.items}: {_what_is_there(found, kind)}")
        tops = [name.partition("/")[0] for name in self._names if "/" in name]
        self.labels: tuple[str, ...] = ()
        self._classes: list[int] | None = None
        if len(tops) == len(self._names):
            self.labels, self._classes = number_classes([_readable(top) for top in tops])

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint_files({name: self.path / name for name in self._names}, "folder")

    @property
    def item_shape(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self._names)

    def __getitem__(self, index: int) -> Record:
        return Record(self.id(index), self.file(index).read_bytes(), self.label(index))

    def file(self, index: int) -> Path:
        """Where an item is."""
        return self.path / self._names[index]

    def id(self, index: int) -> str:
        return _readable(self._names[index])

    def label(self, index: int) -> int | None:
        return None if self._classes is None else self._classes[index]

    def describe(self, index: int) -> str:
        return f"{self.path}/{self.id(index)}"


def list_files(folder: Path) -> list[str]:
    """Relative paths, with slashes, of all files below a folder that are not hidden."""
    return list(_files(folder, ""))


def _files(folder: Path, prefix: str, above: tuple[str, ...] = ()) -> Iterator[str]:
    above = (*above, os.path.realpath(folder))
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if not entry.is_dir():
                yield prefix + entry.name
            elif not entry.is_symlink() or os.path.realpath(entry.path) not in above:
                yield from _files(Path(entry.path), f"{prefix}{entry.name}/", above)


def _readable(name: str) -> str:
    """A file's name as text that can be written anywhere, whatever its bytes."""
    return os.fsencode(name).decode("utf-8", "backslashreplace").replace("\n", "\\n")


def _what_is_there(names: Sequence[str], kind: FileKind) -> str:
    """What a folder without files of a kind holds, and what to do about it."""
    if not names:
        return f"it holds no files; put {kind.items} into it, or name another folder"
    kinds = Counter(os.path.splitext(name)[1] or "without an ending" for name in names)
    text = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
    return (
        f"it holds {len(names)} other files ({text}); {kind.item} files end in {kind.known}; "
        f"name a folder of {kind.items}, or the file itself"
    )
