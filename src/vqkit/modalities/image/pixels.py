"""Any image file or array as 8-bit pixels."""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
SIDEWAYS = (5, 6, 7, 8)  # values of the EXIF orientation that exchange height and width
DAMAGE = (  # what Pillow raises for bytes that are not as they should be
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    ArithmeticError,
    struct.error,
    zlib.error,
)


@dataclass(frozen=True, slots=True)
class Decoded:
    """An image.

    Attributes:
        pixels: Levels 0..255. (H, W, channels) uint8
        size: Height and width as stored, upright; more than that of ``pixels`` where a JPEG file
            was decoded at a fraction of its size.
    """

    pixels: np.ndarray
    size: tuple[int, int]


def decode(value: Any, channels: int = 3, *, enough: int | None = None) -> Decoded:
    """Decodes an image.

    It is turned upright as its EXIF says; of an animation the first picture counts; transparent
    parts show white; 16-bit grey is scaled to 8 bits; CMYK, palettes and the rest become RGB.
    Grey becomes RGB by repetition, RGB becomes grey by the luma of ITU-R 601.

    Args:
        value: The bytes of a file, or an array of uint8, uint16 or bool: (H, W), (H, W, C) or
            (C, H, W) with C 1, 3 or 4.
        channels: 1 or 3.
        enough: A side in pixels that will do: JPEG files, which can be decoded several times
            faster at a half, a quarter or an eighth, keep at least twice of it in both directions.

    Raises:
        ValueError: If it cannot be decoded; the message says why and what to do, not where.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}; give 1 or 3")
    if isinstance(value, np.ndarray):
        image = _from_array(value)
        size = (image.height, image.width)
    elif isinstance(value, bytes):
        image, size = _from_bytes(value, enough)
    else:
        raise ValueError(f"holds {type(value).__name__}; give the bytes of a file, or an array")
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return Decoded(pixels.reshape(*pixels.shape[:2], channels), size)


def decode_image(value: Any, channels: int = 3) -> np.ndarray:
    """The pixels that ``decode`` gives, of a whole image. (H, W, channels) uint8"""
    return decode(value, channels).pixels


def image_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of an image array, by the shape of the array.

    Raises:
        ValueError: If the shape is not that of an image.
    """
    if 0 not in shape:
        if len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4)):
            return shape[0], shape[1]
        if len(shape) == 3 and shape[0] in (1, 3, 4):
            return shape[1], shape[2]
    raise ValueError(f"has shape {shape}; give images of (H, W), (H, W, C) or (C, H, W)")


def _from_array(array: np.ndarray) -> Image.Image:
    image_size(array.shape)
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = _from_16_bits(array)
    elif array.dtype != np.uint8:
        raise ValueError(f"has values of {array.dtype}; store images as uint8, 0 to 255")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _on_white(Image.fromarray(np.ascontiguousarray(array)))


def _from_bytes(data: bytes, enough: int | None) -> tuple[Image.Image, tuple[int, int]]:
    """An image in a mode that converts to RGB, and its own height and width."""
    if not data:
        raise ValueError("is empty; remove it or copy it again")
    try:
        with Image.open(io.BytesIO(data)) as file:
            width, height = file.size
            if enough is not None and file.format == "JPEG":
                file.draft(None, (2 * enough, 2 * enough))
            file.load()
            turned, sideways = _upright(file)
            image = _to_8_bits(_on_white(turned))
            if image.mode not in ("L", "RGB"):
                image = image.convert("RGB")
        return image, (width, height) if sideways else (height, width)
    except UnidentifiedImageError:
        raise ValueError("is no image that can be read; remove it or copy it again") from None
    except (Image.DecompressionBombError, MemoryError):
        raise ValueError("has too many pixels (over 178 million); make it smaller") from None
    except _OddLevels as error:
        raise ValueError(f"{error}; convert it to 8 or 16 bits") from None
    except DAMAGE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"is cut or damaged ({reason}); copy it again") from None


class _OddLevels(Exception):
    """Levels of which nobody says what is black and what is white."""


def _upright(image: Image.Image) -> tuple[Image.Image, bool]:
    """The image as it is meant to be seen, and whether height and width were exchanged."""
    try:
        sideways = image.getexif().get(ExifTags.Base.Orientation) in SIDEWAYS
        return ImageOps.exif_transpose(image), sideways
    except DAMAGE:  # the pixels are whole, what is said about them is not
        return image, False


def _on_white(image: Image.Image) -> Image.Image:
    """Without transparency."""
    if image.mode not in TRANSPARENT and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):  # one grey level of 16 bits that stands for transparent
        return image
    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(white, colours).convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8; Pillow's own conversion would clip it."""
    if image.mode == "F":
        raise _OddLevels("has floating-point pixels")
    if not image.mode.startswith("I"):
        return image
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise _OddLevels("has levels outside 0 to 65535")
    return Image.fromarray(_from_16_bits(levels))


def _from_16_bits(levels: np.ndarray) -> np.ndarray:
    """Levels 0..65535 to 0..255, rounded to nearest: 257 = 65535 / 255."""
    return ((levels.astype(np.int32) + 128) // 257).astype(np.uint8)
