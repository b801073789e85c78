"""Which tensors a piece of code makes, how many numbers they hold at once, and peaks of memory."""

import resource
import sys
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


class Watch(TorchDispatchMode):
    """Counts the numbers of the tensors that are made inside.

    Attributes:
        largest: Of the largest tensor.
        most: The most that were held at one time.
    """

    def __init__(self) -> None:
        super().__init__()
        self.largest = self.most = self._held = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for one in out if isinstance(out, list | tuple) else [out]:
            if isinstance(one, Tensor):
                self.largest = max(self.largest, one.numel())
                self._follow(one)
        return out

    def _follow(self, tensor: Tensor) -> None:
        """Counts what a tensor lies in until it is freed; views of the same count once."""
        storage = tensor.untyped_storage()
        key, numel = storage._cdata, storage.nbytes() // tensor.element_size()
        if key in self._known:
            return
        self._known.add(key)
        self._held += numel
        self.most = max(self.most, self._held)
        weakref.finalize(storage, self._forget, key, numel)

    def _forget(self, key: int, numel: int) -> None:
        self._known.discard(key)
        self._held -= numel


@contextmanager
def kept_for_backward() -> Iterator[list[int]]:
    """How many numbers each tensor has that the backward pass will read."""
    found: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


def peak_mb() -> float:
    """The most memory that this process ever held."""
    status = Path("/proc/self/status")
    if status.exists():  # there the other figure may be that of the process that started this one
        return int(status.read_text().split("VmHWM:")[1].split()[0]) / 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 1024)
