"""Which item stands where in which step: a pure function of the seed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from vqkit.random import generator, hash_int, hash_tensor

WINDOW = 64
"""Batches within which items are brought together by length."""
SHUFFLE = 3
"""A word of the hash that keeps the order of such batches apart from that of items."""


@dataclass(frozen=True, slots=True)
class Draw:
    """One place of a batch.

    Attributes:
        index: Number of the item.
        seed: For the item's augmentation; None: no augmentation.
        position: Place in the global batch of the step.
    """

    index: int
    seed: int | None
    position: int


class StatelessSampler:
    """Shuffles without a state: any step can be asked for at once, on any number of ranks.

    Position p of step s is draw d = s G + p of an endless sequence of permutations of all items,
    one for each epoch d // n. Every item comes once per epoch, and the remainder of an epoch
    is filled from the next one, so that all batches have the same size.

    Where lengths are given, a batch has items of like length, so that little of it is padding: the
    draws of up to 64 steps in a row, of one epoch at most, are sorted by length, cut into batches
    and these shuffled. Then an item comes once per epoch but for those near its ends.

    Args:
        num_examples: Number of items n.
        batch_size: Items G of the global batch, over all ranks and micro-batches.
        seed: Of the permutations and of the augmentation.
        num_micro_batches: Parts A of a step, one after another.
        rank: This process.
        world_size: Number of processes R.
        lengths: How long each item is; None where that does not matter. n

    Raises:
        ValueError: If a number is too small, or G is not a multiple of A times R.
    """

    def __init__(
        self,
        num_examples: int,
        batch_size: int,
        *,
        seed: int,
        num_micro_batches: int = 1,
        rank: int = 0,
        world_size: int = 1,
        lengths: Sequence[int] | None = None,
    ) -> None:
        counts = {
            "num_examples": num_examples,
            "batch_size": batch_size,
            "num_micro_batches": num_micro_batches,
            "world_size": world_size,
        }
        for name, count in counts.items():
            if count < 1:
                raise ValueError(f"{name} is {count}; give at least 1")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank is {rank}; give at least 0 and less than {world_size}")
        if batch_size % (num_micro_batches * world_size):
            raise ValueError(
                f"batch_size is {batch_size}; give a multiple of {num_micro_batches * world_size} "
                f"({num_micro_batches} micro-batches on {world_size} processes)"
            )
        self.num_examples = num_examples
        self.batch_size = batch_size
        self.seed = seed
        self.num_micro_batches = num_micro_batches
        self.rank = rank
        self.world_size = world_size
        self.window = min(WINDOW, max(1, num_examples // batch_size))
        self._lengths = None if lengths is None else torch.tensor(lengths)
        self._sorted: tuple[int, Tensor] | None = None
        if lengths is not None and len(lengths) != num_examples:
            raise ValueError(f"there are {len(lengths)} lengths; give one for each example")

    def micro_batch(self, step: int, k: int = 0) -> list[Draw]:
        """The draws of this rank for one micro-batch of a step.

        Args:
            step: At least 0.
            k: At least 0 and less than ``num_micro_batches``.

        Returns:
            G / A / R draws, in the order of their positions.
        """
        if step < 0 or not 0 <= k < self.num_micro_batches:
            last = self.num_micro_batches - 1
            raise ValueError(f"step is {step} and k is {k}; give step >= 0 and 0 <= k <= {last}")
        size = self.batch_size // self.num_micro_batches
        share = size // self.world_size
        first = k * size + self.rank * share
        positions = torch.arange(first, first + share)
        seeds = hash_tensor(self.seed, step, positions).tolist()
        start = step * self.batch_size
        if self._lengths is None:
            parts = self._sequence(start + first, start + first + share)
            indices = torch.cat(list(parts)).tolist()
        else:
            indices = self._alike(step)[first : first + share]
        return list(map(Draw, indices, seeds, positions.tolist()))

    def _alike(self, step: int) -> list[int]:
        """The items of a step, of like lengths, sorted by them."""
        number, place = divmod(step, self.window)
        if self._sorted is None or self._sorted[0] != number:
            self._sorted = number, self._window(number)
        return self._sorted[1][place].tolist()

    def _window(self, number: int) -> Tensor:
        """The items of the steps of a window, a row for each step. (W, G) int64"""
        assert self._lengths is not None
        size, parts = self.window * self.batch_size, list[Tensor]()
        for items in self._sequence(number * size, (number + 1) * size):
            # Long ones meet where an epoch ends, so that one batch alone has items of both.
            order = self._lengths[items].argsort(stable=True, descending=len(parts) % 2 == 1)
            parts.append(items[order])
        rows = torch.cat(parts).view(self.window, -1)
        return rows[permutation(self.window, hash_int(self.seed, SHUFFLE), number)]

    def _sequence(self, start: int, end: int) -> Iterator[Tensor]:
        """Draws ``start`` to ``end`` of the endless sequence of permutations, epoch by epoch."""
        while start < end:
            epoch, place = divmod(start, self.num_examples)
            order = permutation(self.num_examples, self.seed, epoch)
            part = order[place : place + end - start]
            yield part
            start += len(part)


@lru_cache(maxsize=4)  # a batch reaches into two epochs, another sampler may be used beside it
def permutation(num_examples: int, seed: int, epoch: int) -> Tensor:
    """The order of one epoch. (num_examples,) int64"""
    return torch.randperm(num_examples, generator=generator(seed, epoch))
