"""Worker processes that read one data set, their errors and their end."""

import atexit
import contextlib
import multiprocessing
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from multiprocessing.process import BaseProcess
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from vqkit.data.batch import Batch
from vqkit.data.reading import Failure, Reading

# Forked workers share what was read before; elsewhere system libraries do not survive a fork.
CONTEXT = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
PREFETCH = 3  # batches that each worker holds ready
SMALL = 2**20  # bytes
PATIENCE_S = 20.0


class Workers:
    """Reads batches, in this process or ahead of it in others.

    Args:
        reading: Gives the batch with a number, or why there is none.
        num_workers: Processes that read ahead; 0 reads in this one, when asked.

    Raises:
        ValueError: If the number is negative.
    """

    def __init__(self, reading: Reading, num_workers: int) -> None:
        if num_workers < 0:
            raise ValueError(f"num_workers is {num_workers}; give at least 0")
        self._reading = reading
        self._num_workers = num_workers
        self._iterator: Any = None
        self._processes: list[BaseProcess] = []

    def read(self, numbers: range) -> Iterator[Batch]:
        """The batches with these numbers, in order; ends the workers with the last.

        Raises:
            ValueError: If an item cannot be read; the message names it.
            OSError: If a worker was killed.
        """
        self.close()
        if not self._num_workers or not numbers:
            for number in numbers:
                yield _checked(self._reading[number])
            return
        self._iterator = self._start(numbers)
        atexit.register(self.close)  # workers ignore signals: at exit they must be told to end
        try:
            for _ in numbers:
                yield _checked(self._next())
        finally:
            self.close()

    def _start(self, numbers: range) -> Iterator[Any]:
        with contextlib.suppress(Exception):  # whoever reads the batch will say it
            self._reading.warm_up(numbers[0])
        with warnings.catch_warnings():  # of many workers, and of forks beside torch's threads
            warnings.simplefilter("ignore")
            loader = DataLoader(
                self._reading,
                batch_size=None,
                sampler=numbers,
                num_workers=min(self._num_workers, len(numbers)),
                collate_fn=_pack,
                worker_init_fn=_prepare_worker,
                prefetch_factor=PREFETCH,
                generator=torch.Generator(),  # or the global one would move on
                multiprocessing_context=CONTEXT,
            )
            others = set(multiprocessing.active_children())
            with _kept_handler():
                iterator = iter(loader)
            self._processes = [p for p in multiprocessing.active_children() if p not in others]
            return iterator

    def _next(self) -> Batch | Failure:
        if self._iterator is None:
            raise ValueError("the loader was closed; iterate over it again")
        try:
            return _unpack(next(self._iterator))
        except RuntimeError as error:
            reason = str(error).partition(".")[0]
            raise OSError(
                f"a process that reads data was killed ({reason}): memory or /dev/shm may be full; "
                "set fewer num_workers or a smaller batch_size"
            ) from None

    def close(self) -> None:
        """Ends the workers, and waits for them."""
        iterator, self._iterator = self._iterator, None
        atexit.unregister(self.close)
        if iterator is not None:
            # Torch does it when the iterator is collected, which may be long after an exception.
            iterator._shutdown_workers()
        for process in self._processes:
            process.join(PATIENCE_S)
            if process.is_alive():  # it hangs in a file system, say
                process.kill()
                process.join()
        self._processes = []


@contextlib.contextmanager
def _kept_handler() -> Iterator[None]:
    """Undoes that torch raises the death of a worker wherever the program is at that moment.

    It is seen within seconds in any case, by whoever waits for a batch.
    """
    if threading.current_thread() is not threading.main_thread() or sys.platform == "win32":
        yield  # torch does it nowhere else
        return
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL if handler is None else handler)


def _pack(result: Any) -> Any:
    """What a worker sends: small tensors as bytes, for which no shared memory must be set up."""
    if isinstance(result, Failure):
        return result
    tensors = (result.x, result.mask, result.labels, result.positions)
    return [t.numpy() if t is not None and _is_small(t) else t for t in tensors]


def _is_small(tensor: Tensor) -> bool:
    return tensor.nbytes <= SMALL and tensor.dtype != torch.bfloat16


def _unpack(sent: Any) -> Batch | Failure:
    if isinstance(sent, Failure):
        return sent
    return Batch(*(torch.from_numpy(t) if isinstance(t, np.ndarray) else t for t in sent))


def _prepare_worker(worker: int) -> None:
    """Ctrl-C and SIGTERM reach all processes of a group; the one that trains ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = _except_hung_up


def _except_hung_up(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Shows an error, unless it is that the reader of a tensor was interrupted."""
    if not issubclass(kind, ConnectionError | EOFError):
        sys.__excepthook__(kind, error, trace)


def _checked(result: Batch | Failure) -> Batch:
    if isinstance(result, Batch):
        return result
    error = ValueError(result.message)
    if result.note:
        error.add_note(result.note)
    raise error
