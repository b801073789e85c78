"""Worker processes that read one data set, their errors and their end."""

import atexit
import contextlib
import multiprocessing
import signal
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from vqkit.data.batch import Batch

# Forked workers share what was read before; elsewhere system libraries do not survive a fork.
CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
PREFETCH = 3  # batches that each worker holds ready


@dataclass(frozen=True, slots=True)
class Failure:
    """An error of a worker, to be raised in the process that trains.

    Attributes:
        message: One line that names the item.
        note: Where in the code it was raised, for errors nobody foresaw.
    """

    message: str
    note: str | None


class Workers:
    """Reads the batches of a data set, in this process or ahead of it in others.

    Args:
        dataset: Gives the batch with a number, or why there is none.
        num_workers: Processes that read ahead; 0 reads in this one, when asked.

    Raises:
        ValueError: If the number is negative.
    """

    def __init__(self, dataset: Dataset[Batch | Failure], num_workers: int) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers is {num_workers}; give at least 0")
        self._dataset = dataset
        self._num_workers = num_workers
        self._iterator: Iterator[Batch | Failure] | None = None

    def read(self, numbers: range) -> Iterator[Batch]:
        """The batches with these numbers, in order; ends the workers with the last.

        Raises:
            ValueError: If an item cannot be read; the message names it.
            OSError: If a worker was killed.
        """
        self.close()
        if not self._num_workers or not numbers:
            for number in numbers:
                yield _checked(self._dataset[number])
            return
        self._iterator = self._start(numbers)
        atexit.register(self.close)  # workers ignore signals: at exit they must be told to end
        try:
            for _ in numbers:
                yield _checked(self._next())
        finally:
            self.close()

    def _start(self, numbers: range) -> Iterator[Batch | Failure]:
        with contextlib.suppress(Exception):  # read before the fork, shared after it
            self._dataset[numbers[0]]
        with warnings.catch_warnings():  # of many workers, and of forks beside torch's threads
            warnings.simplefilter("ignore")
            loader = DataLoader(
                self._dataset,
                batch_size=None,
                sampler=numbers,
                num_workers=min(self._num_workers, len(numbers)),
                collate_fn=_unchanged,
                worker_init_fn=_ignore_signals,
                prefetch_factor=PREFETCH,
                generator=torch.Generator(),  # or the global one would move on
                multiprocessing_context=CONTEXT,
            )
            return iter(loader)

    def _next(self) -> Batch | Failure:
        if self._iterator is None:
            raise ValueError("the loader was closed; iterate over it again")
        try:
            return next(self._iterator)
        except RuntimeError as error:
            reason = str(error).partition(".")[0]
        # Raised outside: the first error would keep torch's iterator alive, and so the workers.
        raise OSError(
            f"a process that reads data was killed ({reason}): memory or /dev/shm may be full; "
            "set fewer num_workers or a smaller batch_size"
        )

    def close(self) -> None:
        """Ends the workers, and waits for them."""
        self._iterator = None  # torch joins them when their iterator goes
        atexit.unregister(self.close)


def _unchanged(batch: Any) -> Any:
    return batch


def _ignore_signals(worker: int) -> None:
    """Ctrl-C and SIGTERM reach all processes of a group; the one that trains ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _checked(result: Batch | Failure) -> Batch:
    if isinstance(result, Batch):
        return result
    error = ValueError(result.message)
    if result.note:
        error.add_note(result.note)
    raise error
