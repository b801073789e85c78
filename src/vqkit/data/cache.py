"""Decoded items in memory, kept when first read and shared with forked workers."""

import mmap
from typing import Any

import numpy as np

from vqkit.data.record import Source
from vqkit.data.workers import CONTEXT

AXES = 4  # most axes of an array that can be kept
RESERVED = -1


class SharedCache:
    """uint8 arrays by number, in memory that forked processes share.

    A page takes memory once it is written. The memory has no name, so nothing is left behind and
    the size of /dev/shm does not matter. What is put when there is no more room is not kept.

    Args:
        num_items: Numbers go from 0 to this, without it.
        capacity: Bytes for all arrays together.
    """

    def __init__(self, num_items: int, capacity: int) -> None:
        self._bytes = np.frombuffer(mmap.mmap(-1, max(1, capacity)), np.uint8)
        width = 2 + AXES  # one more than where the array starts, its number of axes, its shape
        table = np.frombuffer(mmap.mmap(-1, 8 * (1 + num_items * width)), np.int64)
        self._used, self._table = table[:1], table[1:].reshape(num_items, width)
        # A row must not be seen before the bytes that it speaks of: the lock orders them.
        self._lock = CONTEXT.Lock()

    def get(self, index: int) -> np.ndarray | None:
        """The array of an item, not to be written to; None when it was not kept."""
        with self._lock:
            place, axes, *shape = self._table[index].tolist()
        return self._view(place - 1, shape[:axes]) if place > 0 else None

    def put(self, index: int, array: np.ndarray) -> None:
        """Keeps the array of an item, unless it is there already or there is no room."""
        row = self._table[index]
        with self._lock:
            start = int(self._used[0])
            if row[0] or start + array.size > len(self._bytes):
                return
            self._used[0] += array.size
            row[0] = RESERVED
        self._view(start, array.shape)[...] = array
        with self._lock:
            row[:] = (start + 1, array.ndim, *array.shape, *[0] * (AXES - array.ndim))

    def _view(self, start: int, shape: "list[int] | tuple[int, ...]") -> np.ndarray:
        return np.ndarray(shape, np.uint8, self._bytes, start)  # pyright: ignore


class KeptItems:
    """The items of a source as arrays that are made when they are first asked for.

    Args:
        source: What is read.
        cache_mb: So many MiB of them are kept in memory; 0 keeps none.
    """

    def __init__(self, source: Source, cache_mb: int) -> None:
        self.source, self._cache_mb = source, cache_mb
        self._cache = self._make_cache()

    def _make_cache(self) -> SharedCache | None:
        return SharedCache(len(self.source), self._cache_mb * 2**20) if self._cache_mb else None

    def kept(self, index: int) -> np.ndarray | None:
        """The array of an item, not to be written to; None when it was not kept."""
        return None if self._cache is None else self._cache.get(index)

    def keep(self, index: int, array: np.ndarray) -> None:
        """Keeps the array of an item, where there is room."""
        if self._cache is not None:
            self._cache.put(index, array)

    def __getstate__(self) -> dict[str, Any]:
        # A process that is not forked cannot share the memory, and fills its own.
        return {name: value for name, value in vars(self).items() if name != "_cache"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._cache = self._make_cache()
