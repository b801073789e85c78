"""Vectors of all ranks: one after another, or item by item where their grid is read."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vqkit import distributed
from vqkit.quantizers.base import real_rows


def joined_rows(z_e: Tensor, mask: Tensor | None) -> Tensor:
    """The real vectors of all ranks, without a gradient. (..., D) -> (N of all, D)"""
    return distributed.gather_rows(real_rows(z_e.detach(), mask))


def joined_items(z_e: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """The items of all ranks in one frame, without a gradient.

    Args:
        z_e: Vectors of this rank; its grid may be another than that of other ranks. (B, *grid, D)
        mask: True where a position is real; None when all are. (B, *grid) bool

    Returns:
        Vectors, and where they are real. (N of all, *grid, D), (N of all, *grid) bool
    """
    sizes = torch.tensor(z_e.shape[1:-1], device=z_e.device)
    z_e, real = framed(z_e.detach(), mask, distributed.all_gather(sizes).amax(0).tolist())
    return distributed.gather_rows(z_e), distributed.gather_rows(real.to(torch.uint8)).bool()


def framed(z_e: Tensor, mask: Tensor | None, grid: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Items in a frame that is at least as large, masked where nothing was.

    Args:
        z_e: Vectors. (B, *grid, D)
        mask: True where a position is real; None when all are. (B, *grid) bool
        grid: Lengths of the frame's axes.

    Returns:
        Vectors, and where they are real. (B, *frame, D), (B, *frame) bool
    """
    real = torch.ones(z_e.shape[:-1], dtype=torch.bool, device=z_e.device) if mask is None else mask
    if z_e.shape[1:-1] == tuple(grid):
        return z_e, real
    box = (slice(None), *(slice(length) for length in z_e.shape[1:-1]))
    larger = z_e.new_zeros(len(z_e), *grid, z_e.shape[-1])
    larger_mask = real.new_zeros(len(z_e), *grid)
    larger[box], larger_mask[box] = z_e, real
    return larger, larger_mask
