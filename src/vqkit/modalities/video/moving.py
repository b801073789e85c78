"""Clips as animated PNG files: lossless, played by every browser, equal clips in equal bytes."""

import struct
import zlib
from collections.abc import Iterator
from fractions import Fraction

from torch import Tensor

from vqkit.modalities.image.pictures import png_bytes

SIGNATURE = b"\x89PNG\r\n\x1a\n"
MOST = 65_535  # of the numbers that say how long a frame stays


def apng_bytes(clip: Tensor, fps: float) -> bytes:
    """A clip as an animated PNG file, in which every frame is whole and has the same time.

    Pillow would join frames that are equal. https://www.w3.org/TR/png-3/#apng-frame-based-animation

    Args:
        clip: Grey, RGB or RGBA levels of at least one frame. (C, T, H, W) uint8
        fps: Frames for each second.
    """
    frames = [dict_of(chunks_of(png_bytes(frame))) for frame in clip.unbind(1)]
    rate = Fraction(fps).limit_denominator(1000)
    while rate.numerator > MOST:
        rate = Fraction(rate.numerator // 2, max(1, rate.denominator // 2))
    delay = struct.pack(">HH", rate.denominator, rate.numerator)
    size = struct.pack(">II", clip.shape[3], clip.shape[2])
    parts = [SIGNATURE, chunk(b"IHDR", frames[0][b"IHDR"])]
    parts.append(chunk(b"acTL", struct.pack(">II", len(frames), 0)))
    number = 0
    for index, frame in enumerate(frames):
        control = struct.pack(">I", number) + size + bytes(8) + delay + bytes(2)
        parts.append(chunk(b"fcTL", control))
        number += 1
        if index == 0:
            parts.append(chunk(b"IDAT", frame[b"IDAT"]))
        else:
            parts.append(chunk(b"fdAT", struct.pack(">I", number) + frame[b"IDAT"]))
            number += 1
    return b"".join([*parts, chunk(b"IEND", b"")])


def chunk(kind: bytes, data: bytes) -> bytes:
    """A chunk of a PNG file."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def chunks_of(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """The kinds and contents of the chunks of a PNG file."""
    place = len(SIGNATURE)
    while place < len(png):
        (length,) = struct.unpack_from(">I", png, place)
        yield png[place + 4 : place + 8], png[place + 8 : place + 8 + length]
        place += length + 12


def dict_of(chunks: Iterator[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """The contents by their kinds, those of one kind joined."""
    found: dict[bytes, bytes] = {}
    for kind, data in chunks:
        found[kind] = found.get(kind, b"") + data
    return found
