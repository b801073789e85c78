"""Reads batches ahead, in worker processes, in an order that does not depend on them."""

import atexit
import multiprocessing
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import torch
from torch.utils.data import DataLoader, Dataset

from vqkit.data.batch import Batch, collate
from vqkit.data.example import Examples
from vqkit.data.sampler import Draw, StatelessSampler

PREFETCH = 4  # batches that each worker holds ready


class Loader:
    """The micro-batches of this rank for a range of steps.

    What step s gives is a pure function of the sampler and s, whatever the number of workers; a
    loader that begins at a late step reads nothing of the earlier ones. Use it in a ``with``, or
    to its end: both leave no process behind.

    Args:
        examples: What is read; each worker has its own copy or shares it by fork.
        sampler: Says which examples make which step.
        first_step: The step to begin with.
        last_step: The step to end before.
        num_workers: Processes that read ahead; 0 reads in this one, when asked.

    Raises:
        ValueError: If a number is out of range, or the sampler was made for other examples.
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
        self._reading = _Reading(_Steps(examples, sampler), num_workers)

    def __len__(self) -> int:
        return self.last_step - self.first_step

    def __iter__(self) -> Iterator[list[Batch]]:
        parts = self._parts
        batches = self._reading.start(range(self.first_step * parts, self.last_step * parts))
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
        self._reading.close()


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
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1")
    numbers = range(len(examples)) if indices is None else indices
    reading = _Reading(_Slices(examples, numbers, batch_size), num_workers)
    return _closing(reading, range(-(-len(numbers) // batch_size)))


def _closing(reading: "_Reading", keys: range) -> Iterator[Batch]:
    try:
        yield from reading.start(keys)
    finally:
        reading.close()


@dataclass(frozen=True, slots=True)
class _Failure:
    """An error of a worker, to be raised in the process that trains."""

    message: str
    note: str | None


class _Steps(Dataset[Batch | _Failure]):
    """Batch number s A + k is micro-batch k of step s."""

    def __init__(self, examples: Examples, sampler: StatelessSampler) -> None:
        self.examples = examples
        self.sampler = sampler

    def __getitem__(self, index: int) -> Batch | _Failure:
        step, k = divmod(index, self.sampler.num_micro_batches)
        return _read(self.examples, self.sampler.micro_batch(step, k))


class _Slices(Dataset[Batch | _Failure]):
    """Batch number b has the items b G to (b + 1) G of a list."""

    def __init__(self, examples: Examples, numbers: Sequence[int], batch_size: int) -> None:
        self.examples = examples
        self.numbers = numbers
        self.batch_size = batch_size

    def __getitem__(self, index: int) -> Batch | _Failure:
        chosen = self.numbers[index * self.batch_size : (index + 1) * self.batch_size]
        return _read(self.examples, [Draw(int(i), None, int(i)) for i in chosen])


def _read(examples: Examples, draws: Sequence[Draw]) -> Batch | _Failure:
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
        return _failure(f"the batch that starts at {_name(examples, draws[0].index)}", error)


def _name(examples: Examples, index: int) -> str:
    describe: Callable[[int], str] | None = getattr(examples, "describe", None)
    return f"item {index}" if describe is None else f"item {index} ({describe(index)})"


def _failure(where: str, error: Exception) -> _Failure:
    if isinstance(error, ValueError | OSError):
        return _Failure(f"{where}: {error}", None)
    return _Failure(f"{where}: {type(error).__name__}: {error}", traceback.format_exc())


class _Reading:
    """The processes that read one data set, and their end."""

    def __init__(self, dataset: _Steps | _Slices, num_workers: int) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers is {num_workers}; give at least 0")
        self._dataset = dataset
        self._num_workers = num_workers
        self._iterator: Iterator[Batch | _Failure] | None = None

    def start(self, keys: range) -> Iterator[Batch]:
        """The batches with these numbers, in order."""
        self.close()
        if not self._num_workers or not keys:
            for key in keys:
                yield _unwrap(self._dataset[key])
            return
        self._iterator = self._fork(keys)
        atexit.register(self.close)  # workers ignore SIGTERM: only this ends them at exit
        try:
            for _ in keys:
                if self._iterator is None:
                    raise ValueError("the loader was closed; iterate again to read on")
                yield _unwrap(next(self._iterator))
        finally:
            self.close()

    def _fork(self, keys: range) -> Iterator[Batch | _Failure]:
        self._dataset[keys[0]]  # what is read at first use is then shared with the workers
        forks = "fork" in multiprocessing.get_all_start_methods()
        loader = DataLoader(
            self._dataset,
            batch_size=None,
            sampler=keys,
            num_workers=min(self._num_workers, len(keys)),
            collate_fn=_same,
            worker_init_fn=_ignore_signals,
            prefetch_factor=PREFETCH,
            generator=torch.Generator(),  # or it would advance the global one
            multiprocessing_context="fork" if forks else "spawn",
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # fork beside torch's own threads
            return iter(loader)

    def close(self) -> None:
        self._iterator = None  # torch ends and joins the workers with their iterator
        atexit.unregister(self.close)


def _same(batch: Batch | _Failure) -> Batch | _Failure:
    return batch


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and SIGTERM reach all processes of a group; the one that trains ends the workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _unwrap(result: Batch | _Failure) -> Batch:
    if isinstance(result, Batch):
        return result
    error = ValueError(result.message)
    if result.note:
        error.add_note(result.note)
    raise error
