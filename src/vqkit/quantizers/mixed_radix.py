"""One integer for several digits."""

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from vqkit.quantizers.checks import whole

LARGEST = 2**63 - 1


def check_levels(levels: Sequence[int]) -> tuple[int, ...]:
    """``levels`` as a tuple; raises ValueError where they make no codebook of an int64."""
    if not isinstance(levels, Iterable):
        raise TypeError(
            f"levels is {levels!r}; give a number of values for each coordinate: (8, 5)"
        )
    levels = tuple(whole(level, "a level", 2) for level in levels)
    size = 1
    for level in levels:
        size *= level
    if not levels:
        raise ValueError("levels are empty; give a number of values for each coordinate")
    if size > LARGEST:
        raise ValueError(
            f"levels make about 10^{math.log10(size):.1f} codes, and an index has 63 bits; give "
            "fewer or smaller levels, or cut the vectors into parts (Product)"
        )
    return levels


def check_dim(levels: Sequence[int], dim: int) -> None:
    """Raises ValueError unless there are as many levels as coordinates of a vector."""
    num = len(levels)
    if dim != num:
        raise ValueError(
            f"{num} levels need vectors of length {num}, they have {dim}; give as many levels, or "
            f"put a projection around (type=projected, dim={num})"
        )


def join(digits: Tensor, levels: Sequence[int]) -> Tensor:
    """Digits, the first one counting least, as one integer.

    Args:
        digits: From 0 to below their level. (..., D) int64
        levels: Number of values of each. D integers

    Returns:
        (...) int64
    """
    return (digits * basis(levels, digits.device)).sum(-1)


def join_columns(digits: Sequence[Tensor], levels: Sequence[int]) -> Tensor:
    """``join`` for digits that lie apart: the first ones of all integers, then the second.

    Args:
        digits: From 0 to below their level. D times (...) int64
        levels: Number of values of each. D integers

    Returns:
        (...) int64
    """
    joined, count = digits[0], 1
    for digit, level in zip(digits[1:], levels[:-1], strict=True):
        count *= level
        joined = joined + digit * count
    return joined


def split(indices: Tensor, levels: Sequence[int]) -> Tensor:
    """The digits of integers; the inverse of ``join``. (...) -> (..., D) int64"""
    sizes = torch.tensor(levels, device=indices.device)
    return indices.unsqueeze(-1) // basis(levels, indices.device) % sizes


def basis(levels: Sequence[int], device: torch.device) -> Tensor:
    """What each digit counts. (D,) int64"""
    return torch.tensor([1, *levels[:-1]], device=device).cumprod(0)
