"""Functions in C that setup.py built where a compiler was, and threads to run them in parts."""

import ctypes
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor


def load(folder: Path, name: str, files: Sequence[str]) -> ctypes.CDLL | None:
    """The compiled functions of a folder; None where nothing was built that this machine loads.

    Args:
        folder: Where they are, and the files that they were made of if these are there, too.
        name: Of the library.
        files: In C, in the order in which setup.py names them. If they have changed since, the
            functions may want other arguments: there is a warning, and None.
    """
    for suffix in EXTENSION_SUFFIXES:
        path = folder / (name + suffix)
        if path.exists():
            try:
                library = ctypes.CDLL(str(path))
            except OSError:
                continue
            if is_made_of(library, [folder / file for file in files]):
                return library
            warnings.warn(
                f"{path} was compiled from other files than those beside it, and is left out, "
                "which is slower; install vqkit again",
                RuntimeWarning,
                stacklevel=2,
            )
    return None


def is_made_of(library: ctypes.CDLL, files: Sequence[Path]) -> bool:
    """Whether a library was made of these files, or they are not there."""
    if not all(file.is_file() for file in files):
        return True
    function = getattr(library, "vqkit_sources", None)
    if function is None:
        return False
    function.restype = ctypes.c_uint32
    return function() == zlib.crc32(b"".join(file.read_bytes() for file in files))


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
    if parts == 1:
        return function(0, num) != 0
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
