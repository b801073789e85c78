"""Grey levels: 0 to 255 as numbers from -1 to 1, and back."""

import torch
from torch import Tensor

from vqkit import random

HALF_RANGE = 127.5  # x = level / 127.5 - 1
LIMIT = 1.5  # resizing may overshoot [-1, 1] a little; numbers beyond this are no such images


def normalize(x: Tensor) -> Tensor:
    """Grey levels to [-1, 1]; floats are taken to be there already.

    Args:
        x: Images, uint8 or floating. (...)

    Returns:
        Images, float32 if they were uint8. (...)

    Raises:
        TypeError: If they are of another type.
        ValueError: If floats are far outside [-1, 1], or not numbers.
    """
    if x.dtype == torch.uint8:
        return x.float() / HALF_RANGE - 1
    if not x.is_floating_point():
        raise TypeError(f"images are {x.dtype}; give uint8, or floats in [-1, 1]")
    if x.numel() and not torch.compiler.is_compiling() and not (x.abs().amax() <= LIMIT):
        low, high = x.amin().item(), x.amax().item()
        raise ValueError(
            f"images have values from {low:g} to {high:g}; give floats in [-1, 1], or uint8"
        )
    return x


def to_level(x: Tensor) -> Tensor:
    """Numbers from -1 to 1, or uint8, on the scale of grey levels, not rounded. (...) float64"""
    return x.double() if x.dtype == torch.uint8 else (x.double() + 1) * HALF_RANGE


def nearest_level(x: Tensor) -> Tensor:
    """The nearest of the grey levels 0 to 255. (...) float64"""
    return to_level(x).round().clamp(0, 255)


def snap(x: Tensor) -> Tensor:
    """The nearest number in [-1, 1] that is a grey level; uint8 are levels. (...) float64"""
    return nearest_level(x) / HALF_RANGE - 1


def item_uniforms(
    seed: int, shape: tuple[int, ...], device: torch.device, first: int = 0
) -> Tensor:
    """Uniform numbers in (0, 1) of which those of item i depend on (seed, first + i) alone.

    Args:
        seed: Any integer.
        shape: (B, ...)
        device: Where they are made.
        first: Number of the first item.

    Returns:
        Numbers. (B, ...) float64
    """
    items = torch.arange(first, first + shape[0], device=device).unsqueeze(1)
    elements = torch.arange(torch.Size(shape[1:]).numel(), device=device)
    return random.uniform(seed, items, elements).reshape(shape)


def num_values(x: Tensor, mask: Tensor | None) -> Tensor:
    """How many real values there are.

    Args:
        x: Images. (B, C, *grid)
        mask: True where a pixel is real; None when all are. (B, *grid) bool

    Returns:
        () int64
    """
    if mask is None:
        return torch.full((), x.numel(), dtype=torch.int64, device=x.device)
    return mask.sum() * x.shape[1]
