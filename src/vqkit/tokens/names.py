"""File names for items: from any id, unique, and never outside the folder."""

import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

LONGEST = 100  # bytes of one part of a name; file systems allow 255
KNOWN = re.compile(
    r"\.(a?png|jpe?g|webp|bmp|gif|tiff?|ppm|pgm|wav|flac|ogg|mp3|mp4|m4v|mkv|mov|avi|webm|txt|npy)$",
    re.IGNORECASE,
)


def file_names(ids: Iterable[str], suffix: str) -> Iterator[PurePosixPath]:
    """A relative path with this ending for each id, in order.

    Folders of an id, which end in ``/``, are kept. Steps upward, roots, drives and characters that
    a file system may refuse, such as a backslash, are replaced. Where two ids would share a file,
    on a file system that ignores case too, the later one gets its number appended.

    Args:
        ids: Names of items, of any form.
        suffix: Such as ``.png``.
    """
    taken: set[str] = set()
    for index, id in enumerate(ids):
        *folders, stem = [safe(part) for part in re.split("/+", KNOWN.sub("", id))]
        folders = [folder.replace(".", "_") for folder in folders if folder != "_"]
        name = PurePosixPath(*folders, f"{stem}{suffix}")
        while str(name).casefold() in taken:
            name = name.with_name(f"{stem}-{index}{suffix}")
        taken.add(str(name).casefold())
        yield name


def safe(part: str) -> str:
    """One part of a path without anything that has a meaning to a file system."""
    plain = re.sub(r"[^\w .()+=@,-]", "_", part).strip(" .")
    return plain.encode()[:LONGEST].decode(errors="ignore") or "_"
