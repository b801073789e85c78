"""Any film, animation, image, or row of images as 8-bit frames of one size."""

import io
import math
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from vqkit.modalities.image.fit import Framing, fit
from vqkit.modalities.image.pixels import DAMAGE, TRANSPARENT, decode
from vqkit.modalities.video.film import Frame, film

STARTS = (b"GIF8", b"\x89PNG", b"\xff\xd8", b"BM", b"II*\0", b"MM\0*", b"P1", b"P2", b"P3")
STARTS += (b"P4", b"P5", b"P6")
QUICK_MS, USUAL_MS = 10, 100  # what browsers make of frames of animations that last no time
NEAR = 0.05  # of the time between two moments: times in files are rounded, to 1 ms for example

Frames = tuple[tuple[str, bytes], ...]
"""Names and bytes of the image files whose images are the frames of one clip."""


@dataclass(frozen=True, slots=True)
class Form:
    """What is made of a clip.

    Attributes:
        framing: Size and channels of each frame.
        fps: Frames for each second; None for all that there are.
        every: Of these one in so many is kept.
        most: Frames of a clip, at most; None for all.
    """

    framing: Framing
    fps: float | None = None
    every: int = 1
    most: int | None = None


@dataclass(frozen=True, slots=True)
class Decoded:
    """A clip.

    Attributes:
        levels: (C, T, h, w) uint8
        size: Height and width as stored.
    """

    levels: np.ndarray
    size: tuple[int, int]


def decode_clip(value: Any, form: Form) -> Decoded:
    """Decodes a clip.

    A still image is a clip of one frame.

    Args:
        value: The bytes of a file: an image or an animation that Pillow reads, or a film that PyAV
            reads; or ``Frames``.
        form: What is made of it.

    Raises:
        ValueError: If it cannot be used; the message says why and what to do, not where.
    """
    channels = form.framing.channels
    if isinstance(value, tuple):
        found = row_of_images(value, channels)
    elif not isinstance(value, bytes):
        raise ValueError(f"holds {type(value).__name__}; give the bytes of a film or an image")
    elif is_image(value) or not value:
        found = images_in(value, channels)
    else:
        found = film(value, channels)
    chosen = islice(in_time(found, form.fps), 0, None, form.every)
    size, frames = None, []
    with warnings.catch_warnings():  # Pillow warns of oddities that leave the pixels whole
        warnings.simplefilter("ignore")
        for pixels in islice(chosen, form.most):
            size = pixels.shape[:2] if size is None else size
            if pixels.shape[:2] != size:
                sizes = f"{pixels.shape[0]} x {pixels.shape[1]}, the first {size[0]} x {size[1]}"
                raise ValueError(f"has a frame {len(frames) + 1} of {sizes}; make them alike")
            frames.append(fit(pixels, form.framing))
    if size is None:
        raise ValueError("has no frames; copy it again or remove it")
    return Decoded(np.stack(frames, axis=1), size)


def in_time(frames: Iterable[Frame], fps: float | None) -> Iterator[np.ndarray]:
    """The frames that are seen at moments that are evenly apart, from the beginning.

    Args:
        frames: In order. Those of which nothing says when they are seen stay as they are.
        fps: Moments for each second; None for the frames as they are.

    Returns:
        Levels of each. (H, W, channels) uint8
    """
    zero = None
    for frame in frames:
        if fps is None or frame.start_s is None or frame.end_s is None:
            yield frame.pixels
            continue
        zero = frame.start_s if zero is None else zero
        first, last = (
            math.ceil((time - zero) * fps - NEAR) for time in (frame.start_s, frame.end_s)
        )
        for _ in range(first, last):
            yield frame.pixels


def is_image(data: bytes) -> bool:
    """Whether a file is one of the images and animations that Pillow reads."""
    if data[:4] == b"RIFF":
        return data[8:12] == b"WEBP"
    return data.startswith(STARTS) or data[4:12] in (b"ftypavif", b"ftypavis")


def images_in(data: bytes, channels: int) -> Iterator[Frame]:
    """The frames of an animation, or the one of an image."""
    if not data:
        raise ValueError("is empty; remove it or copy it again")
    try:
        with Image.open(io.BytesIO(data)) as file:
            num = getattr(file, "n_frames", 1)
            if num > 1 and file.format != "TIFF":
                yield from animation(file, num, channels)
                return
    except UnidentifiedImageError:
        raise ValueError("is no image that can be read; remove it or copy it again") from None
    except (Image.DecompressionBombError, MemoryError):
        raise ValueError("has too many pixels (over 178 million); make it smaller") from None
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"is cut or damaged ({reason}); copy it again") from None
    yield Frame(decode(data, channels).pixels)


def animation(file: Image.Image, num: int, channels: int) -> Iterator[Frame]:
    """The frames of an open animation; transparent parts show white."""
    time = 0.0
    for index in range(num):
        file.seek(index)
        file.load()
        image = file
        if image.mode in TRANSPARENT or "transparency" in image.info:
            colours = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", colours.size, "white"), colours)
        pixels = np.array(image.convert("RGB").convert("L" if channels == 1 else "RGB"))
        if channels == 1 and file.mode == "L":
            pixels = np.array(file)
        lasts = float(file.info.get("duration") or 0)
        end = time + (lasts if lasts >= QUICK_MS else USUAL_MS) / 1000
        yield Frame(pixels.reshape(*pixels.shape[:2], channels), time, end)
        time = end


def row_of_images(files: Frames, channels: int) -> Iterator[Frame]:
    """The frames that are image files of one folder; an error names the file."""
    for name, data in files:
        try:
            frames = list(islice(images_in(data, channels), 2))
        except ValueError as error:
            raise ValueError(f"has a frame, {name}, that {error}") from None
        if len(frames) > 1:
            raise ValueError(
                f"has a frame, {name}, that moves; set data.images=stills if each image is a clip"
            )
        yield Frame(frames[0].pixels)
