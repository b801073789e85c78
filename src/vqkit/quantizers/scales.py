"""Grids of several scales: averages over the cells of a coarser one, and interpolation back."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Grid = tuple[int, ...]


class Scale(nn.Module):
    """One grid beside a finer one that covers the same.

    Cell i of n along an axis of length m covers the positions from floor(i m / n) to
    ceil((i + 1) m / n), as in adaptive pooling; where n does not divide m, cells overlap by one.
    Only elementwise arithmetic is used: no item's result depends on the others, matrix products in
    TF32 or half precision round nothing, and the backward pass is deterministic where asked.

    Args:
        grid: Lengths of its axes.
        full: Lengths of the axes of the finer one.
    """

    sizes: Tensor

    def __init__(self, grid: Grid, full: Grid) -> None:
        super().__init__()
        self.grid = grid
        pairs = list(zip(grid, full, strict=True))
        self.sum = WeightedSums([cells(fine, coarse) for coarse, fine in pairs])
        self.spread = WeightedSums([lines(coarse, fine) for coarse, fine in pairs])
        sizes = self.sum(torch.ones(1, *full, 1))
        self.register_buffer("sizes", sizes.long(), persistent=False)

    def num_real(self, mask: Tensor | None) -> Tensor | None:
        """How many real positions each cell has; None when all are. (B, *full) -> (B, *grid)"""
        return None if mask is None else self.sum(mask.unsqueeze(-1).float()).squeeze(-1).long()

    def code_mask(self, mask: Tensor | None) -> Tensor | None:
        """Which cells have any real position; None when all are. (B, *full) -> (B, *grid) bool"""
        num = self.num_real(mask)
        return None if num is None else num > 0

    def average(self, z: Tensor, mask: Tensor | None) -> Tensor:
        """The mean over the real positions of each cell, 0 where there is none.

        Args:
            z: Vectors. (B, *full, D)
            mask: True where a position is real; None when all are. (B, *full) bool

        Returns:
            Vectors. (B, *grid, D)
        """
        num = self.num_real(mask)
        if mask is None or num is None:
            return self.sum(z) / self.sizes
        return self.sum(z.masked_fill(~mask.unsqueeze(-1), 0)) / num.clamp(min=1).unsqueeze(-1)

    def interpolate(self, z: Tensor) -> Tensor:
        """Vectors between those of the cells' centres, linear along each axis.

        Args:
            z: Vectors. (B, *grid, D)

        Returns:
            Vectors; beyond the outermost centres those of the centres. (B, *full, D)
        """
        return self.spread(z)


@dataclass(frozen=True, slots=True)
class Weights:
    """What each position of a new axis is the weighted sum of.

    Attributes:
        rows: Positions of the old axis. (M, W)
        weights: Their weights, before they are divided. (M, W)
        divisor: What all weights are divided by: so they are exact in any precision.
    """

    rows: list[list[int]]
    weights: list[list[int]]
    divisor: int = 1


class WeightedSums(nn.Module):
    """Replaces each axis of a grid by weighted sums along it.

    Args:
        axes: One for each axis of the grid.
    """

    def __init__(self, axes: Sequence[Weights]) -> None:
        super().__init__()
        self.divisors = [axis.divisor for axis in axes]
        self.are_ones = [
            {w for row in axis.weights for w in row} == {axis.divisor} for axis in axes
        ]
        flat = [[i for row in axis.rows for i in row] for axis in axes]
        self.in_order = [rows == list(range(len(rows))) for rows in flat]
        for number, axis in enumerate(axes):
            self.register_buffer(f"rows_{number}", torch.tensor(axis.rows), persistent=False)
            self.register_buffer(f"weights_{number}", torch.tensor(axis.weights), persistent=False)

    def forward(self, z: Tensor) -> Tensor:
        """Vectors on the old grid to vectors on the new one. (B, *grid, D)"""
        for number, divisor in enumerate(self.divisors):
            axis = number + 1
            rows, weights = self.get_buffer(f"rows_{number}"), self.get_buffer(f"weights_{number}")
            if not self.in_order[number]:
                z = z.index_select(axis, rows.flatten())
            elif rows.shape[1] == 1:  # the same axis
                continue
            z = z.unflatten(axis, rows.shape)
            if not self.are_ones[number]:
                shape = (*rows.shape, *[1] * (z.dim() - axis - 2))
                z = z * (weights.to(z.dtype) / divisor).view(shape)
            z = z.sum(axis + 1)
        return z


def cells(fine: int, coarse: int) -> Weights:
    """Sums over the positions of each cell of a coarser axis."""
    edges = [(i * fine // coarse, -(-(i + 1) * fine // coarse)) for i in range(coarse)]
    places = range(max(stop - start for start, stop in edges))
    return Weights(
        [[min(start + place, fine - 1) for place in places] for start, _ in edges],
        [[int(start + place < stop) for place in places] for start, stop in edges],
    )


def lines(coarse: int, fine: int) -> Weights:
    """Values on the lines between the centres of the cells of a coarser axis."""
    # In units of 1 / (2 fine) cells, from the centre of the first.
    places = [max((2 * i + 1) * coarse - fine, 0) for i in range(fine)]
    split = [divmod(place, 2 * fine) for place in places]
    if coarse == fine:
        return Weights([[i] for i in range(fine)], [[1]] * fine)
    return Weights(
        [[low, min(low + 1, coarse - 1)] for low, _ in split],
        [[2 * fine - rest, rest] for _, rest in split],
        2 * fine,
    )
