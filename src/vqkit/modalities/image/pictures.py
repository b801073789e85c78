"""Image tensors as pictures: 8-bit values, contact sheets and PNG files."""

import io
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqkit.atomic import atomic_file


def to_uint8(x: Tensor) -> Tensor:
    """The nearest grey levels of normalised images; 8-bit images are left as they are.

    Args:
        x: Images, floating in [-1, 1] (cut off outside) or uint8. (..., C, H, W)

    Returns:
        Grey levels. (..., C, H, W) uint8
    """
    if x.dtype == torch.uint8:
        return x
    return ((x.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)


def as_image(image: Tensor) -> Image.Image:
    """A picture of one image.

    Args:
        image: Grey (1 channel), RGB (3) or RGBA (4) levels. (C, H, W) uint8

    Raises:
        ValueError: If it has another number of channels.
    """
    if image.dim() != 3 or image.shape[0] not in (1, 3, 4):
        shape = tuple(image.shape)
        raise ValueError(f"image has shape {shape}; give (C, H, W) with 1, 3 or 4 channels")
    values = image.permute(1, 2, 0).contiguous().cpu().numpy()
    return Image.fromarray(values[..., 0] if image.shape[0] == 1 else values)


def png_bytes(image: Tensor) -> bytes:
    """One image as a PNG file; equal images give equal bytes.

    Args:
        image: Grey, RGB or RGBA levels. (C, H, W) uint8
    """
    buffer = io.BytesIO()
    as_image(image).save(buffer, format="PNG")
    return buffer.getvalue()


def save_png(path: Path, image: Tensor) -> None:
    """Writes one image as a PNG file, whole or not at all.

    Args:
        path: The file; its folder must exist.
        image: Grey, RGB or RGBA levels. (C, H, W) uint8
    """
    with atomic_file(path) as part:
        part.write_bytes(png_bytes(image))


def enlarge(images: Tensor, side: int) -> Tensor:
    """Images made a whole number of times larger without smoothing, so that pixels stay visible.

    Args:
        images: Grey levels. (..., C, H, W) uint8
        side: Length to reach about, in pixels, by the longer of height and width.

    Returns:
        The same images, or larger ones. (..., C, H * s, W * s) uint8
    """
    scale = max(1, round(side / max(images.shape[-2:])))
    return images.repeat_interleave(scale, -2).repeat_interleave(scale, -1)


def shrink(image: Tensor, side: int) -> Tensor:
    """An image no longer than ``side`` pixels in height and width, by the means of its pixels.

    Args:
        image: Grey levels. (C, H, W) uint8
        side: Largest length, in pixels.

    Returns:
        The same image, or a smaller one of the same proportions. (C, h, w) uint8
    """
    height, width = image.shape[1:]
    if max(height, width) <= side:
        return image
    scale = side / max(height, width)
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    return F.adaptive_avg_pool2d(image.float(), size).round().to(torch.uint8)


def contact_sheet(
    images: Tensor | Sequence[Tensor], columns: int, *, gap: int = 2, background: int = 255
) -> Tensor:
    """Many images of one size as one, row by row.

    Args:
        images: Grey or RGB levels. (N, C, H, W) uint8
        columns: Images per row.
        gap: Pixels between images.
        background: Grey level of the gaps and of places without image.

    Returns:
        One image. (C, rows * H + gaps, columns * W + gaps) uint8

    Raises:
        ValueError: If there are no images or no columns.
    """
    if columns < 1 or not len(images):
        raise ValueError(f"columns is {columns} for {len(images)} images; give at least 1 of both")
    rows = -(-len(images) // columns)
    channels, height, width = images[0].shape
    size = (rows * (height + gap) - gap, columns * (width + gap) - gap)
    sheet = torch.full((channels, *size), background, dtype=torch.uint8)
    for i, image in enumerate(images):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        sheet[:, top : top + height, left : left + width] = image
    return sheet
