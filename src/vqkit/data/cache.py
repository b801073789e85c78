"""Decoded items in memory, filled when first read and shared with forked workers."""

import mmap
from collections.abc import Sequence
from itertools import accumulate
from math import prod

import numpy as np

from vqkit.data.workers import CONTEXT


class SharedCache:
    """Room for one uint8 array per item, in memory that forked processes share.

    A page takes memory once it is written. The memory has no name, so nothing is left behind and
    the size of /dev/shm does not matter.

    Args:
        shapes: Shape of each item's array.
    """

    def __init__(self, shapes: Sequence[tuple[int, ...]]) -> None:
        self._shapes = shapes
        self._starts = [0, *accumulate(prod(shape) for shape in shapes)]
        self._bytes = np.frombuffer(mmap.mmap(-1, self._starts[-1] + len(shapes)), np.uint8)
        self._filled = self._bytes[self._starts[-1] :]
        # A flag must not be seen before the bytes that it speaks of: the lock orders them.
        self._lock = CONTEXT.Lock()

    def get(self, index: int) -> np.ndarray | None:
        """The array of an item, not to be written to; None when it was never put."""
        with self._lock:
            filled = self._filled[index]
        return self._place(index) if filled else None

    def put(self, index: int, array: np.ndarray) -> None:
        """Keeps the array of an item, unless it has another shape than was said."""
        if array.shape != self._shapes[index]:
            return
        self._place(index)[...] = array
        with self._lock:
            self._filled[index] = 1

    def _place(self, index: int) -> np.ndarray:
        flat = self._bytes[self._starts[index] : self._starts[index + 1]]
        return flat.reshape(self._shapes[index])
