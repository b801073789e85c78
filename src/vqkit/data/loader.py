"""Reads batches ahead, in worker processes, in an order that does not depend on them."""

from collections.abc import Iterator, Sequence
from functools import partial
from types import TracebackType
from typing import Self

from vqkit.data.batch import Batch
from vqkit.data.example import Examples
from vqkit.data.reading import Reading
from vqkit.data.sampler import Draw, StatelessSampler
from vqkit.data.workers import Workers


class Loader:
    """The micro-batches of this rank for a range of steps.

    What a step gives is a pure function of the sampler and the step, whatever the number of
    workers, and a loader that begins late reads nothing of the earlier steps. Used in a ``with``,
    or to its end, it leaves no process behind.

    Args:
        examples: What is read; workers share it by fork, or get a pickled copy where there is none.
        sampler: Says which examples make which step.
        first_step: The step to begin with.
        last_step: The step to end before.
        num_workers: Processes that read ahead; 0 reads in this one, when asked.

    Raises:
        ValueError: If a number is out of range, or the sampler is for another number of examples.
    """

    def __init__(
        self,
        examples: Examples,
        sampler: StatelessSampler,
        *,
        first_step: int = 0,
        last_step: int,
        num_workers: int = 0,
    ) -> None:
        if sampler.num_examples != len(examples):
            raise ValueError(
                f"the sampler is for {sampler.num_examples} examples, there are {len(examples)}; "
                "make it with num_examples=len(examples)"
            )
        if not 0 <= first_step <= last_step:
            raise ValueError(
                f"first_step is {first_step}, last_step {last_step}; give 0 <= first <= last"
            )
        self.first_step = first_step
        self.last_step = last_step
        self._parts = sampler.num_micro_batches
        self._workers = Workers(Reading(examples, partial(_of_step, sampler)), num_workers)

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[Batch]]:
        parts = self._parts
        batches = self._workers.read(range(self.first_step * parts, self.last_step * parts))
        for _ in range(len(self)):
            yield [next(batches) for _ in range(parts)]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers; iterating again starts new ones."""
        self._workers.close()


def in_order(
    examples: Examples,
    batch_size: int,
    *,
    indices: Sequence[int] | None = None,
    num_workers: int = 0,
) -> Iterator[Batch]:
    """Every example once, in order and without augmentation; the last batch may be smaller.

    Args:
        examples: What is read.
        batch_size: Items per batch, at least 1.
        indices: Which items, in this order; all when None.
        num_workers: Processes that read ahead; 0 reads in this one, when asked.

    Returns:
        Batches whose ``positions`` are the numbers of the items.

    Raises:
        ValueError: If a number is too small, or an item cannot be read.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1")
    numbers = range(len(examples)) if indices is None else indices
    reading = Reading(examples, partial(_of_list, numbers, batch_size))
    return Workers(reading, num_workers).read(range(-(-len(numbers) // batch_size)))


def _of_step(sampler: StatelessSampler, number: int) -> list[Draw]:
    """The draws of batch number s A + k, which is micro-batch k of step s."""
    return sampler.micro_batch(*divmod(number, sampler.num_micro_batches))


def _of_list(numbers: Sequence[int], batch_size: int, number: int) -> list[Draw]:
    """The draws of batch number b: items b G to (b + 1) G of a list."""
    chosen = numbers[number * batch_size : (number + 1) * batch_size]
    return [Draw(int(index), None, int(index)) for index in chosen]
