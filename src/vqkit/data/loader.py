"""Reads batches ahead, in worker processes, in an order that does not depend on them."""

import traceback
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Self

from torch.utils.data import Dataset

from vqkit.data.batch import Batch, collate
from vqkit.data.example import Examples
from vqkit.data.sampler import Draw, StatelessSampler
from vqkit.data.workers import Failure, Workers


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
        self._workers = Workers(_Steps(examples, sampler), num_workers)

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
    workers = Workers(_Slices(examples, numbers, batch_size), num_workers)
    return workers.read(range(-(-len(numbers) // batch_size)))


class _Steps(Dataset[Batch | Failure]):
    """Batch number s A + k is micro-batch k of step s."""

    def __init__(self, examples: Examples, sampler: StatelessSampler) -> None:
        self.examples = examples
        self.sampler = sampler

    def __getitem__(self, index: int) -> Batch | Failure:
        step, k = divmod(index, self.sampler.num_micro_batches)
        return _read(self.examples, self.sampler.micro_batch(step, k))


class _Slices(Dataset[Batch | Failure]):
    """Batch number b has the items b G to (b + 1) G of a list."""

    def __init__(self, examples: Examples, numbers: Sequence[int], batch_size: int) -> None:
        self.examples = examples
        self.numbers = numbers
        self.batch_size = batch_size

    def __getitem__(self, index: int) -> Batch | Failure:
        chosen = self.numbers[index * self.batch_size : (index + 1) * self.batch_size]
        return _read(self.examples, [Draw(int(i), None, int(i)) for i in chosen])


def _read(examples: Examples, draws: Sequence[Draw]) -> Batch | Failure:
    """One batch, or why it cannot be had."""
    items = []
    for draw in draws:
        try:
            items.append(examples.example(draw.index, draw.seed))
        except Exception as error:  # a user's examples may raise anything; the item must be named
            return _failure(_name(examples, draw.index), error)
    try:
        return collate(items, [draw.position for draw in draws])
    except ValueError as error:
        return _failure(f"the batch with {_name(examples, draws[0].index)}", error)


def _name(examples: Examples, index: int) -> str:
    describe: Callable[[int], str] | None = getattr(examples, "describe", None)
    return f"item {index}" if describe is None else f"item {index} ({describe(index)})"


def _failure(where: str, error: Exception) -> Failure:
    if isinstance(error, ValueError | OSError):
        return Failure(f"{where}: {error}", None)
    return Failure(f"{where}: {type(error).__name__}: {error}", traceback.format_exc())
