"""How long items are: the probability of their extents, for codes of unequal length."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor

from vqkit.codes import LevelSpec
from vqkit.data.example import Examples
from vqkit.schema import STRICT

Extent = tuple[int, ...]
"""How many positions of an item are real along each axis of each level, coarsest first; all 0 in a
level of which nothing is."""


@config_dataclass(frozen=True, config=STRICT)
class Lengths:
    """How often each extent was seen, and so how probable each is.

    p(extent) = (n + 1 / M) / (N + 1): n of N items were so, and M extents are possible. What was
    never seen is improbable, not impossible.
    """

    extents: tuple[tuple[int, ...], ...]
    """Those that were seen."""
    counts: tuple[int, ...]
    """How often each was seen."""

    def __post_init__(self) -> None:
        if len(self.extents) != len(self.counts):
            found = f"{len(self.extents)} extents, {len(self.counts)} counts"
            raise ValueError(f"there are {found}; give one count for each")

    def check(self, specs: Sequence[LevelSpec]) -> None:
        """Raises ValueError unless these can be extents of items of such levels."""
        longest = full(specs)
        if len(set(self.extents)) < len(self.extents):
            raise ValueError("lengths hold an extent twice; add up its counts")
        if any(count < 0 for count in self.counts):
            raise ValueError(f"lengths hold negative counts, {min(self.counts)}; give at least 0")
        for extent in self.extents:
            if len(extent) != len(longest):
                have = f"lengths hold extent {extent}, the levels have {len(longest)} axes"
                raise ValueError(f"{have}; count those of the same tokens")
            for length, most in zip(extent, longest, strict=True):
                if not 0 <= length <= most:
                    have = f"lengths hold {length} along an axis of {most}"
                    raise ValueError(f"{have}; count those of the same tokens")

    @classmethod
    def of(cls, examples: Examples, specs: Sequence[LevelSpec]) -> "Lengths":
        """Those of a set of flat codes.

        Args:
            examples: Whose x are flat codes (L,), with their masks where something is not real.
            specs: The shapes of the levels.

        Raises:
            ValueError: If an item has holes.
        """
        length = sum(spec.num_tokens for spec in specs)
        seen: Counter[Extent] = Counter()
        for index in range(len(examples)):
            mask = examples.example(index).mask
            mask = torch.ones(length, dtype=torch.bool) if mask is None else mask
            try:
                seen[tuple(extents_of(mask.unsqueeze(0), specs)[0].tolist())] += 1
            except ValueError as error:
                raise ValueError(f"item {index}: {error}") from None
        return cls(tuple(sorted(seen)), tuple(seen[extent] for extent in sorted(seen)))

    def log_prob(self, mask: Tensor | None, specs: Sequence[LevelSpec], num: int) -> Tensor:
        """The log-probability of the extents of each item.

        Args:
            mask: Which integers are real; None when all are. (B, L) bool
            specs: The shapes of the levels.
            num: Number of items B.

        Returns:
            Nats. (B,) float64

        Raises:
            ValueError: If an item has holes.
        """
        if mask is None:
            mask = torch.ones(num, sum(spec.num_tokens for spec in specs), dtype=torch.bool)
        known = dict(zip(self.extents, self.counts, strict=True))
        total, possible = sum(self.counts), num_extents(specs)
        found = [
            math.log((known.get(tuple(extent), 0) + 1 / possible) / (total + 1))
            for extent in extents_of(mask, specs).tolist()
        ]
        return torch.tensor(found, dtype=torch.float64, device=mask.device)

    def sample(self, u: Tensor, specs: Sequence[LevelSpec], known: Tensor) -> Tensor:
        """Draws extents, of those that hold what is known.

        Args:
            u: Uniform numbers: one to choose by, and one for what was never seen. (B, 2) float64
            specs: The shapes of the levels.
            known: Which integers the items have in any case. (B, L) bool

        Returns:
            Which integers are real. (B, L) bool
        """
        boxes = torch.stack([box(extent, specs) for extent in (*self.extents, full(specs))])
        boxes = boxes.to(known.device)
        reach = [_reach(row, specs) for row in known]
        any_box = [_num_holding(each, specs) / num_extents(specs) for each in reach]
        counts = torch.tensor(self.counts, dtype=torch.float64, device=known.device)
        holds = (boxes[:-1] | ~known.unsqueeze(1)).all(-1)
        weights = torch.cat([counts * holds, counts.new_tensor(any_box).unsqueeze(1)], dim=1)
        cumulative = weights.cumsum(1)
        chosen = (cumulative > u[:, :1] * cumulative[:, -1:]).byte().argmax(1)
        masks = boxes[chosen]
        for row in (chosen == len(self.counts)).nonzero().flatten().tolist():
            masks[row] = box(_any_holding(reach[row], float(u[row, 1]), specs), specs)
        return masks


@dataclass(frozen=True, slots=True)
class _Level:
    """Where a level stands in ``Codes.flat``."""

    spec: LevelSpec
    where: slice


def _levels(specs: Sequence[LevelSpec]) -> list[_Level]:
    found, start = [], 0
    for spec in specs:
        found.append(_Level(spec, slice(start, start + spec.num_tokens)))
        start += spec.num_tokens
    return found


def num_extents(specs: Sequence[LevelSpec]) -> int:
    """How many extents are possible: in each level nothing, or a box that begins at the corner."""
    return math.prod(math.prod(spec.grid) + 1 for spec in specs)


def full(specs: Sequence[LevelSpec]) -> Extent:
    """The extent of an item of which everything is real."""
    return tuple(length for spec in specs for length in spec.grid or (1,))


def extents_of(mask: Tensor, specs: Sequence[LevelSpec]) -> Tensor:
    """The extents of masks.

    Args:
        mask: Which integers are real, in the order of ``Codes.flat``. (B, L) bool
        specs: The shapes of the levels.

    Returns:
        Of every axis of every level; a level without axes has one of length 1. (B, A) int64

    Raises:
        ValueError: If what is real is no box that begins at the corner.
    """
    found = []
    for level in _levels(specs):
        grid = level.spec.grid or (1,)
        real = mask[:, level.where].reshape(len(mask), *grid, -1)[..., 0]
        reach = [
            real.movedim(axis, 1).reshape(len(mask), length, -1).any(2).sum(1)
            for axis, length in enumerate(grid, start=1)
        ]
        found += reach
        inside = torch.ones_like(real)
        for axis, (length, number) in enumerate(zip(grid, reach, strict=True), start=1):
            below = torch.arange(length, device=mask.device) < number.unsqueeze(1)
            inside &= below.reshape(-1, *(length if a == axis else 1 for a in range(1, real.dim())))
        if not torch.equal(inside, real):
            raise ValueError(
                "what is real of an item is no box that begins at the corner, and only such items "
                "have a length; fill the holes, or build the prior without lengths"
            )
    return torch.stack(found, dim=1)


def box(extent: Extent, specs: Sequence[LevelSpec]) -> Tensor:
    """The mask of an extent. (L,) bool"""
    parts, start = [], 0
    for spec in specs:
        grid = spec.grid or (1,)
        real = torch.zeros(grid, dtype=torch.bool)
        real[tuple(slice(length) for length in extent[start : start + len(grid)])] = True
        parts.append(real.flatten().repeat_interleave(len(spec.codebook_sizes)))
        start += len(grid)
    return torch.cat(parts)


def _reach(known: Tensor, specs: Sequence[LevelSpec]) -> list[list[int]]:
    """How far what is known (L,) goes along the axes of each level; 0 where nothing is."""
    found = []
    for level in _levels(specs):
        grid = level.spec.grid or (1,)
        places = known[level.where].reshape(*grid, -1)[..., 0].nonzero()
        found.append([0] * len(grid) if not len(places) else (places.amax(0) + 1).tolist())
    return found


def _num_holding(reach: Sequence[Sequence[int]], specs: Sequence[LevelSpec]) -> int:
    """How many extents are possible that reach at least so far."""
    return math.prod(map(_choices, reach, specs))


def _choices(reach: Sequence[int], spec: LevelSpec) -> int:
    """How many boxes of a level reach at least so far; the empty one where nothing is known."""
    lengths = zip(spec.grid or (1,), reach, strict=True)
    return math.prod(length - max(least, 1) + 1 for length, least in lengths) + (max(reach) == 0)


def _any_holding(reach: Sequence[Sequence[int]], u: float, specs: Sequence[LevelSpec]) -> Extent:
    """One of the extents that reach at least so far, each as probable, by a uniform number."""
    number, extent = int(u * _num_holding(reach, specs)), list[int]()
    for least, spec in zip(reach, specs, strict=True):
        number, own = divmod(number, _choices(least, spec))
        grid = spec.grid or (1,)
        if max(least) == 0 and own == 0:
            extent += [0] * len(grid)
            continue
        own -= max(least) == 0
        for length, from_ in zip(grid, least, strict=True):
            own, step = divmod(own, length - max(from_, 1) + 1)
            extent.append(max(from_, 1) + step)
    return tuple(extent)
