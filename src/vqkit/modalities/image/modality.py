"""What is particular to images, for all that shows, measures and writes items."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vqkit.modalities.base import Figure
from vqkit.modalities.image.metrics import ImageMetrics
from vqkit.modalities.image.pictures import save_png, to_uint8

CHANNELS = (1, 3)
TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"


class ImageModality:
    """8-bit images of one or three channels."""

    name, item, items, suffix = "image", "image", "images", ".png"
    an_item, collection = "an image", None
    dimension = "one value of one pixel"
    plain = (8, "8-bit pixels")
    shows_entries = True
    figures = (
        Figure("psnr_db", "PSNR", "dB"),
        Figure("ssim", "SSIM", note="1 is a perfect copy"),
        Figure("mse_over_variance", "MSE / variance", note="share of the variance that is lost"),
    )
    scale = (
        "Values go from 0 (black) to 1 (white). PSNR and SSIM are the means of those of each image."
    )

    def size(self, shape: Sequence[int]) -> str:
        """Height and width."""
        return f"of {TIMES.join(map(str, shape[1:]))} pixels"

    def metrics(self, device: torch.device | str) -> ImageMetrics:
        """What measures reconstructions."""
        return ImageMetrics(device=device)

    def stored(self, x: Tensor) -> Tensor:
        """Grey levels. (B, C, H, W) uint8"""
        return to_uint8(x)

    def save(self, path: Path, x: Tensor) -> None:
        """Writes one image (C, H, W) uint8 as a PNG file."""
        save_png(path, x)

    def pictures(self, x: Tensor) -> Tensor | None:
        """The images themselves; None if they have other channels. (B, C, H, W) uint8"""
        return to_uint8(x) if x.dim() == 4 and x.shape[1] in CHANNELS else None

    def media(self, x: Tensor) -> None:
        """Nothing: an image is its picture."""


IMAGE = ImageModality()
