"""Any image file or array as 8-bit pixels of a wanted size."""

import io
import struct
import threading
import warnings
import zlib
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps, UnidentifiedImageError

Resize = Literal["crop", "stretch", "pad", "none"]

TRANSPARENT = ("LA", "La", "PA", "RGBA", "RGBa")
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError)
MAX_EXCESS = 4  # sides of a canvas for random crops, in sides of the crop

_opening = threading.Lock()


def decode_image(value: Any, channels: int = 3) -> np.ndarray:
    """The pixels of an image.

    Turned upright as its EXIF says; the first picture of an animation; transparent parts on white;
    16-bit grey scaled to 8 bits; CMYK, palettes and the rest converted to RGB. Grey becomes RGB by
    repetition, RGB grey by the luma of ITU-R 601.

    Args:
        value: The bytes of a file, or an array of uint8, uint16 or bool: (H, W), (H, W, C) or
            (C, H, W) with C 1, 3 or 4.
        channels: 1 or 3.

    Returns:
        Levels 0..255. (H, W, channels) uint8

    Raises:
        ValueError: If it cannot be decoded; the message says why, not where.
    """
    if channels not in (1, 3):
        raise ValueError(f"channels is {channels}; give 1 or 3")
    if isinstance(value, np.ndarray):
        image = _from_array(value)
    elif isinstance(value, bytes):
        image = _from_bytes(value)
    else:
        raise ValueError(f"holds {type(value).__name__}, not the bytes of a file or an array")
    pixels = np.asarray(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def image_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of an image array, by the shape of the array.

    Raises:
        ValueError: If the shape is not that of an image.
    """
    if len(shape) == 2:
        return shape[0], shape[1]
    if len(shape) == 3 and shape[2] in (1, 3, 4):
        return shape[0], shape[1]
    if len(shape) == 3 and shape[0] in (1, 3, 4):
        return shape[1], shape[2]
    raise ValueError(f"has shape {shape}; give images of (H, W), (H, W, C) or (C, H, W)")


def _from_array(array: np.ndarray) -> Image.Image:
    height, width = image_size(array.shape)
    if not height or not width:
        raise ValueError(f"has shape {array.shape}, no pixels; remove it")
    if array.dtype == np.bool_:
        array = array.astype(np.uint8) * 255
    elif array.dtype == np.uint16:
        array = _from_16_bits(array)
    elif array.dtype != np.uint8:
        raise ValueError(f"has values of {array.dtype}; store images as uint8, 0 to 255")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        array = np.moveaxis(array, 0, 2)
    return _on_white(
        Image.fromarray(
            np.ascontiguousarray(array.squeeze(2) if array.shape[2:] == (1,) else array)
        )
    )


def _from_bytes(data: bytes) -> Image.Image:
    """Raises ValueError with the reason where Pillow raises one of its many errors."""
    if not data:
        raise ValueError("is empty; remove it or copy it again")
    try:
        # Pillow only warns of sizes from its limit up to twice of it, and refuses beyond.
        with _opening, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data))
        image.load()
    except Image.DecompressionBombError:
        raise ValueError(
            "has too many pixels to be safe (over 178 million); make it smaller"
        ) from None
    except UnidentifiedImageError:
        raise ValueError("is not an image; remove it") from None
    except MemoryError:
        raise ValueError("does not fit into memory; make it smaller") from None
    except (*DAMAGE, struct.error, zlib.error) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"is cut or damaged ({reason}); copy it again") from None
    return _to_8_bits(_on_white(_upright(image)))


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except (*DAMAGE, struct.error, ZeroDivisionError):
        return image  # the pixels are whole, what is said about them is not


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode not in TRANSPARENT and "transparency" not in image.info:
        return image
    if image.mode in ("I", "F") or image.mode.startswith("I;"):
        return image
    colours = image.convert("RGBA")
    white = Image.new("RGBA", colours.size, "white")
    return Image.alpha_composite(white, colours).convert("RGB")


def _to_8_bits(image: Image.Image) -> Image.Image:
    """Grey of 16 bits as grey of 8; Pillow's own conversion would clip it."""
    if image.mode == "F":
        raise ValueError("has floating-point pixels; convert it to 8 or 16 bits")
    if image.mode != "I" and not image.mode.startswith("I;"):
        return image
    levels = np.asarray(image)
    if levels.min() < 0 or levels.max() > 65535:
        raise ValueError("has levels outside 0 to 65535; convert it to 8 or 16 bits")
    return Image.fromarray(_from_16_bits(levels))


def _from_16_bits(levels: np.ndarray) -> np.ndarray:
    """Levels 0..65535 to 0..255, rounded to nearest: 257 = 65535 / 255."""
    return ((levels.astype(np.int32) + 128) // 257).astype(np.uint8)


def canvas_size(
    height: int, width: int, size: tuple[int, int] | None, resize: Resize, slack: bool
) -> tuple[int, int]:
    """Height and width that ``fit`` gives for an image of a size."""
    if size is None:
        return height, width
    return size if resize == "pad" else _plan(height, width, size, resize, slack)[1]


def fit(
    pixels: np.ndarray, size: tuple[int, int] | None, resize: Resize, slack: bool
) -> np.ndarray:
    """Scales an image (bicubic, antialiased) so that a window of ``size`` can be cut out of it.

    Args:
        pixels: Levels. (H, W, C) uint8
        size: Height and width of the window; None: the image as it is.
        resize: ``crop``: the shorter side fits the window; ``stretch``: both sides do; ``pad``:
            the longer side does, and the rest is black; ``none``: only images smaller than the
            window are scaled.
        slack: Whether more than the window is kept, for random crops; at most four times its
            sides where the image is scaled. Otherwise the middle is cut out.

    Returns:
        Levels, h and w at least those of the window. (C, h, w) uint8
    """
    if size is None:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    (region_h, region_w), (height, width) = _plan(*pixels.shape[:2], size, resize, slack)
    top, left = (pixels.shape[0] - region_h) // 2, (pixels.shape[1] - region_w) // 2
    region = pixels[top : top + region_h, left : left + region_w].transpose(2, 0, 1)
    if (height, width) != (region_h, region_w):
        batch = torch.from_numpy(np.ascontiguousarray(region)).unsqueeze(0)
        scaled = F.interpolate(batch, (height, width), mode="bicubic", antialias=True)
        region = scaled[0].numpy()
    if resize != "pad":
        return np.ascontiguousarray(region)
    canvas = np.zeros((region.shape[0], *size), np.uint8)
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    canvas[:, top : top + height, left : left + width] = region
    return canvas


def _plan(
    height: int, width: int, size: tuple[int, int], resize: Resize, slack: bool
) -> tuple[tuple[int, int], tuple[int, int]]:
    """The middle part of an image that is used, and the size that it is scaled to."""
    if resize == "stretch":
        return (height, width), size
    if resize == "pad":
        scale = min(size[0] / height, size[1] / width)
        scaled = (round(height * scale), round(width * scale))
        return (height, width), (max(1, scaled[0]), max(1, scaled[1]))
    scale = max(size[0] / height, size[1] / width)
    if resize == "none" and scale <= 1:
        region = (height, width) if slack else size
        return region, region
    excess = MAX_EXCESS if slack else 1
    region = (
        min(height, max(1, round(size[0] * excess / scale))),
        min(width, max(1, round(size[1] * excess / scale))),
    )
    if not slack:
        return region, size
    return region, (max(size[0], round(region[0] * scale)), max(size[1], round(region[1] * scale)))
