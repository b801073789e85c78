"""Functions in C that setup.py built where a compiler was, and threads to run them in parts."""

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor


def load(folder: Path, name: str) -> ctypes.CDLL | None:
    """The compiled functions of a folder; None where nothing was built that this machine loads."""
    for suffix in EXTENSION_SUFFIXES:
        path = folder / (name + suffix)
        if path.exists():
            try:
                return ctypes.CDLL(str(path))
            except OSError:
                continue
    return None


def pointer(x: Tensor) -> ctypes.c_void_p:
    """Where the numbers of a contiguous tensor begin."""
    return ctypes.c_void_p(x.data_ptr())


def failed_in_parts(function: Callable[[int, int], int], num: int, most: int) -> bool:
    """Calls a function for parts of a range, which threads share.

    Args:
        function: Gets first and last number of a part; gives 0 where all went well.
        num: Length of the range.
        most: Parts that are worth a thread; torch's number of threads are used at most.

    Returns:
        Whether a part went wrong.
    """
    parts = max(1, min(torch.get_num_threads(), most))
    edges = [num * i // parts for i in range(parts + 1)]
    others = [_pool().submit(function, *edges[i : i + 2]) for i in range(1, parts)]
    try:
        failed = [function(*edges[:2]), *(other.result() for other in others)]
    finally:  # an interrupt must not free what other threads still read
        for other in others:
            other.cancel()
        wait(others)
    return any(failed)


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that wait for parts."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="vqkit-parts")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads
