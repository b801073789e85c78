"""Samples: 16-bit integers as numbers from -1 to 1, and back."""

import torch
from torch import Tensor

FULL_SCALE = 32_768  # of 16 bits
LIMIT = 2.0  # resampling overshoots [-1, 1] a little; numbers beyond this are on another scale


def normalize(x: Tensor) -> Tensor:
    """16-bit samples to [-1, 1]; floats are taken to be there already.

    Args:
        x: Sound, int16 or floating. (...)

    Returns:
        Sound, float32 if it was int16. (...)

    Raises:
        TypeError: If it is of another type.
        ValueError: If floats are far outside [-1, 1].
    """
    if x.dtype == torch.int16:
        return x.float() / FULL_SCALE
    if not x.is_floating_point():
        raise TypeError(f"sound is {x.dtype}; give floats in [-1, 1], or int16")
    if x.numel() and not torch.compiler.is_compiling() and x.abs().amax() > LIMIT:
        low, high = x.amin().item(), x.amax().item()
        raise ValueError(
            f"samples have values from {low:g} to {high:g}; give floats in [-1, 1], or int16"
        )
    return x


def to_int16(x: Tensor) -> Tensor:
    """The nearest 16-bit samples, cut to their range. (...) int16"""
    if x.dtype == torch.int16:
        return x
    return (x.float() * FULL_SCALE).round().clamp(-FULL_SCALE, FULL_SCALE - 1).to(torch.int16)
