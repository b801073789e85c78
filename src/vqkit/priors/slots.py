"""Which codebook each integer of an item comes from."""

from collections.abc import Sequence
from dataclasses import dataclass

from vqkit.codes import LevelSpec


@dataclass(frozen=True, slots=True)
class Slots:
    """The slots of ``Codes.flat`` that hold indices of one codebook.

    Attributes:
        where: Their places in the sequence.
        size: Number of entries of the codebook.
        offset: Number of entries of all codebooks before it.
    """

    where: slice
    size: int
    offset: int

    @property
    def places(self) -> range:
        """Their places, one by one."""
        return range(self.where.start, self.where.stop, self.where.step)


def slots_of(specs: Sequence[LevelSpec]) -> tuple[Slots, ...]:
    """The slots of every codebook: levels coarsest first, then the Q axis."""
    found, start, offset = [], 0, 0
    for spec in specs:
        num, stop = len(spec.codebook_sizes), start + spec.num_tokens
        for q, size in enumerate(spec.codebook_sizes):
            found.append(Slots(slice(start + q, stop, num), size, offset))
            offset += size
        start = stop
    return tuple(found)


def describe(specs: Sequence[LevelSpec]) -> str:
    """The levels in a few words for errors, such as ``4x4 of 512 (flat) + 8x8 of 512 (flat)``."""
    levels = []
    for spec in specs:
        grid = "x".join(map(str, spec.grid)) or "1"
        levels.append(f"{grid} of {','.join(map(str, spec.codebook_sizes))} ({spec.structure})")
    return " + ".join(levels)
