"""Kinds of files that hold one item each."""

import os
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FileKind:
    """Files of one kind, by the ends of their names.

    Attributes:
        item: What one holds, such as ``image``.
        items: What several hold, such as ``images``.
        known: Ends of names, in small letters, each with its dot, a space between.
        is_text: Whether tables hold such items as text, too, and not as the bytes of files alone.
    """

    item: str
    items: str
    known: str
    is_text: bool = False

    def has(self, name: str) -> bool:
        """Whether a file's name ends like those of this kind."""
        return os.path.splitext(name)[1].lower() in self.known.split()


IMAGES = FileKind(
    "image",
    "images",
    ".avif .bmp .gif .jfif .jpe .jpeg .jpg .pbm .pgm .png .pnm .ppm .tga .tif .tiff .webp",
)
