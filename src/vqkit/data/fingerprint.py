"""A short name for the contents of files, that a copy shares and a change does not."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

BUDGET = 2**26  # bytes that are read in all: about a tenth of a second
FEWEST = 2**12
BLOCKS = 16
MOST_FILES = 20_000


def fingerprint_files(files: Mapping[str, Path], *facts: str) -> str:
    """Hexadecimal SHA-256 of names, sizes and samples of the contents of files.

    The time of the last change has no part in it: copies have other times. Small files are read
    whole, of large ones evenly spaced blocks that include the first and the last. Of more than
    20,000 files only the names and sizes are all used.

    Args:
        files: Paths by the name that counts, such as the path below the data's folder.
        facts: What else decides the data: names of columns and the like.
    """
    digest = hashlib.sha256("\n".join(facts).encode())
    stride = -(-len(files) // MOST_FILES) or 1
    share = max(FEWEST, BUDGET // max(1, min(len(files), MOST_FILES)))
    for number, (name, path) in enumerate(sorted(files.items())):
        try:
            size = path.stat().st_size
            digest.update(f"{name}\0{size}\n".encode("utf-8", "surrogateescape"))
            if number % stride == 0:
                with path.open("rb") as file:
                    _sample(digest, file, size, share)
        except OSError as error:  # a broken link, say: unreadable, but still part of the data
            digest.update(f"{name}\0{type(error).__name__}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _sample(digest: "hashlib._Hash", file: BinaryIO, size: int, share: int) -> None:
    """Adds at most ``share`` bytes of a file."""
    if size <= share:
        digest.update(file.read())
        return
    block = share // BLOCKS
    for number in range(BLOCKS):
        file.seek((size - block) * number // (BLOCKS - 1))
        digest.update(file.read(block))
