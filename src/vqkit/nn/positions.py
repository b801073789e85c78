"""Sinusoidal positions on a grid of any size."""

import math

import torch
from torch import Tensor


def grid_positions(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """A vector for each position of a grid: half of it tells the row, half the column.

    Attention Is All You Need, section 3.5, https://arxiv.org/abs/1706.03762, once for each axis:
    cosines and sines whose wavelengths grow from 2 pi to 10,000 times that.

    Args:
        height: Number of rows H.
        width: Number of columns W.
        dim: Length D of the vectors, at least 1; where 4 does not divide it, the last are 0.
        like: Says the type and the device.

    Returns:
        In raster order. (H W, D)
    """
    num_waves = dim // 4
    exponents = torch.arange(num_waves, device=like.device, dtype=torch.float64)
    rates = torch.exp(-math.log(10_000) * exponents / max(1, num_waves))
    places = torch.arange(max(height, width), device=like.device)
    angles = places.unsqueeze(1) * rates
    waves = torch.cat([angles.cos(), angles.sin()], dim=1)
    vectors = torch.zeros(height, width, dim, dtype=torch.float64, device=like.device)
    vectors[:, :, : 2 * num_waves] = waves[:height, None]
    vectors[:, :, 2 * num_waves : 4 * num_waves] = waves[:width]
    return vectors.flatten(0, 1).to(like.dtype)


def line_positions(length: int, dim: int, like: Tensor) -> Tensor:
    """A vector for each position of a line; where 2 does not divide ``dim``, the last is 0.

    Args:
        length: Number of positions L.
        dim: Length D of the vectors, at least 1.
        like: Says the type and the device.

    Returns:
        (L, D)
    """
    return grid_positions(length, 1, 2 * dim, like)[:, :dim]
