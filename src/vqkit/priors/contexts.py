"""Which integers stand nearest before each slot."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.codes import LevelSpec
from vqkit.priors.slots import Slots, slots_of


@dataclass(frozen=True, slots=True)
class Contexts:
    """What the slots of one codebook are told of the integers before them.

    Attributes:
        slots: The slots of the codebook.
        before: Slot of each context integer, the most telling first; -1 where there is none,
            outside of the grid. (positions, J) int64
        sizes: Number of entries of the codebook of each. J
    """

    slots: Slots
    before: Tensor
    sizes: tuple[int, ...]


def contexts_of(specs: Sequence[LevelSpec], order: int) -> tuple[Contexts, ...]:
    """The contexts of every codebook, at most ``order`` integers each.

    First the code of the level before that lies over the position, then the codebooks before it at
    its own position, then the same codebook at the nearest positions before, see ``offsets``.

    Args:
        specs: The shapes of the levels, coarsest first.
        order: Most integers of a context.
    """
    found, books, start = [], iter(slots_of(specs)), 0
    above: tuple[LevelSpec, int] | None = None
    for spec in specs:
        num, near = len(spec.codebook_sizes), neighbours(spec.grid, order)
        positions = start + torch.arange(math.prod(spec.grid)) * num
        for q, size in enumerate(spec.codebook_sizes):
            columns, sizes = list[Tensor](), list[int]()
            if above is not None and len(above[0].grid) == len(spec.grid):
                columns.append(lying_over(spec.grid, *above))
                sizes.append(above[0].codebook_sizes[0])
            columns += [positions + own for own in reversed(range(q))]
            sizes += reversed(spec.codebook_sizes[:q])
            columns += [torch.where(n < 0, -1, start + n * num + q) for n in near]
            sizes += [size] * len(near)
            none = torch.empty(len(positions), 0, dtype=torch.int64)
            before = torch.stack(columns[:order], dim=1) if columns[:order] else none
            found.append(Contexts(next(books), before, tuple(sizes[:order])))
        above, start = (spec, start), start + spec.num_tokens
    return tuple(found)


def offsets(grid: Sequence[int], num: int) -> list[tuple[int, ...]]:
    """The nearest places before a position in raster order, as steps along the axes of a grid.

    On a line the last ones; on a plane left, above, above left, above right, two to the left, and
    so on. Of places as far away, those come first that are fewer steps away along the first axis,
    then along the next; then those to the left.
    """
    # Along the longest axis lie ``num`` places, or all: none of the nearest is further than that.
    reach = [range(-min(num, length - 1), min(num, length - 1) + 1) for length in grid]
    before = [step for step in itertools.product(*reach) if step < tuple(0 for _ in grid)]
    return sorted(
        before, key=lambda step: (sum(o * o for o in step), [abs(o) for o in step], step)
    )[:num]


def neighbours(grid: Sequence[int], num: int) -> list[Tensor]:
    """The positions at each of ``offsets``, -1 outside of the grid. Each (positions,) int64"""
    lengths = torch.tensor(tuple(grid), dtype=torch.int64)
    places = _places(grid)
    found = []
    for step in offsets(grid, num):
        moved = places + torch.tensor(step, dtype=torch.int64)
        inside = ((moved >= 0) & (moved < lengths)).all(1)
        found.append(torch.where(inside, _numbers(moved, grid), -1))
    return found


def lying_over(grid: Sequence[int], coarser: LevelSpec, start: int) -> Tensor:
    """The slots of a coarser level's first codebook that lie over the positions of a grid.

    Args:
        grid: Lengths of its axes.
        coarser: The level, of as many axes.
        start: Its first slot.

    Returns:
        (positions,) int64
    """
    lengths = torch.tensor(tuple(grid), dtype=torch.int64)
    scaled = _places(grid) * torch.tensor(coarser.grid, dtype=torch.int64) // lengths
    return start + _numbers(scaled, coarser.grid) * len(coarser.codebook_sizes)


def _places(grid: Sequence[int]) -> Tensor:
    """The places of all positions. (positions, axes) int64"""
    if not grid:
        return torch.zeros(1, 0, dtype=torch.int64)
    return torch.cartesian_prod(*map(torch.arange, grid)).reshape(-1, len(grid))


def _numbers(places: Tensor, grid: Sequence[int]) -> Tensor:
    """The numbers of places in raster order. (positions, axes) -> (positions,) int64"""
    numbers = torch.zeros(len(places), dtype=torch.int64)
    for axis, length in enumerate(grid):
        numbers = numbers * length + places[:, axis]
    return numbers
