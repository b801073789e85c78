"""Brings images of any size to the size that is wanted."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F

Resize = Literal["crop", "stretch", "pad", "none"]
MAX_EXCESS = 4  # sides of a canvas that is scaled, in sides of the window


@dataclass(frozen=True, slots=True)
class Framing:
    """What is made of an image before anything random: a canvas that the window is cut out of.

    Attributes:
        window: Height and width that are cut out in the end; None: images stay as they are.
        resize: ``crop``: the image is scaled so that it covers the window, ``stretch``: so that
            it equals it, ``pad``: so that it lies inside, on black; ``none``: it is scaled only
            where it is smaller than the window, to cover it.
        slack: Whether the canvas keeps what exceeds the window, for random crops; of a scaled
            image at most four times the window's sides. Otherwise the middle is kept.
        channels: 1 or 3.
    """

    window: tuple[int, int] | None
    resize: Resize
    slack: bool
    channels: int

    @property
    def enough(self) -> int | None:
        """A side that an image need not exceed to be scaled down well; None: every pixel counts."""
        if self.window is None or self.resize == "none" or self.slack:
            return None
        return max(self.window)

    def plan(self, height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
        """The middle part of an image that is used, and the size that it is scaled to."""
        own = (height, width)
        if self.window is None:
            return own, own
        if self.resize == "stretch":
            return own, self.window
        ratios = (self.window[0] / height, self.window[1] / width)
        if self.resize == "pad":
            return own, _scaled(own, min(ratios))
        scale = max(ratios)
        if self.resize == "none" and scale <= 1:
            region = own if self.slack else self.window
            return region, region
        most = MAX_EXCESS if self.slack else 1
        region = (
            min(height, max(1, round(self.window[0] * most / scale))),
            min(width, max(1, round(self.window[1] * most / scale))),
        )
        scaled = _scaled(region, scale)
        return region, (
            min(max(self.window[0], scaled[0]), self.window[0] * most),
            min(max(self.window[1], scaled[1]), self.window[1] * most),
        )


def fit(pixels: np.ndarray, framing: Framing) -> np.ndarray:
    """The canvas of an image, scaled bicubically with antialiasing.

    Args:
        pixels: Levels. (H, W, C) uint8
        framing: What is wanted.

    Returns:
        Levels, height and width at least those of the window. (C, h, w) uint8
    """
    region, size = framing.plan(*pixels.shape[:2])
    top, left = (pixels.shape[0] - region[0]) // 2, (pixels.shape[1] - region[1]) // 2
    part = _resize(pixels[top : top + region[0], left : left + region[1]], size)
    if framing.window is None or framing.resize != "pad":
        return part
    canvas = np.zeros((part.shape[0], *framing.window), np.uint8)
    top, left = (framing.window[0] - size[0]) // 2, (framing.window[1] - size[1]) // 2
    canvas[:, top : top + size[0], left : left + size[1]] = part
    return canvas


def _resize(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Pixels (H, W, C) of another size, channels first. (C, h, w) uint8"""
    if pixels.shape[:2] == size:
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))
    # Bytes with channels last are ten times as fast as other layouts and types, and right even
    # where an image becomes one pixel wide: torch's kernels for floats are not.
    writable = np.require(pixels, requirements=["C", "W"])  # or torch warns
    batch = torch.from_numpy(writable).permute(2, 0, 1).unsqueeze(0)
    scaled = F.interpolate(batch, size, mode="bicubic", antialias=True)
    return scaled[0].contiguous().numpy()


def _scaled(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))
