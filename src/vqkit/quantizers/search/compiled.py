"""Search by a loop in C, several times faster, where the package was built with a compiler."""

import ctypes
import os
from concurrent.futures import ThreadPoolExecutor, wait
from functools import cache
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

NAME = "_nearest"  # of the file that setup.py builds from nearest.c
WIDEST = 16  # numbers in a vector of the processor; 8 for AVX2 and NEON, 4 without any of these
PRODUCTS_PER_THREAD = 2**22  # with fewer, handing over costs more than it saves


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where nothing was built that this machine can load."""
    for suffix in EXTENSION_SUFFIXES:
        path = Path(__file__).with_name(NAME + suffix)
        if path.exists():
            try:
                loaded = ctypes.CDLL(str(path))
            except OSError:
                continue
            loaded.vqkit_table_bytes.restype = ctypes.c_int64
            return loaded
    return None


def is_possible(z: Tensor, entries: Tensor) -> bool:
    """Whether entries can be searched so: of float32, on the CPU, with the functions built."""
    return entries.is_cpu and entries.dtype == torch.float32 and library() is not None


def search(z: Tensor, entries: Tensor) -> Tensor:
    """The index of the nearest entry of each vector, the lowest one on ties.

    Args:
        z: Vectors. (N, D) float32
        entries: Codebook entries. (K, D) float32

    Returns:
        Indices. (N,) int64

    Raises:
        MemoryError: If there is no room for a few vectors.
    """
    functions = library()
    assert functions is not None
    z, entries = z.contiguous(), entries.contiguous()
    size, dim = (ctypes.c_int64(number) for number in entries.shape)
    room = torch.empty(functions.vqkit_table_bytes(size, dim), dtype=torch.uint8)
    table = (pointer(entries), size, dim, pointer(room))
    functions.vqkit_prepare(*table, ctypes.c_int64(len(z)))
    indices = torch.empty(len(z), dtype=torch.int64)

    def part(first: int, last: int) -> int:
        count, most = ctypes.c_int64(last - first), ctypes.c_int64(WIDEST)
        rows = pointer(z[first:]), count, pointer(indices[first:]), most
        return functions.vqkit_nearest(*table, *rows)

    parts = max(1, min(torch.get_num_threads(), len(z) * entries.numel() // PRODUCTS_PER_THREAD))
    edges = [len(z) * i // parts for i in range(parts + 1)]
    others = [_pool().submit(part, *edges[i : i + 2]) for i in range(1, parts)]
    try:
        failed = [part(*edges[:2]), *(other.result() for other in others)]
    finally:  # an interrupt must not free what other threads still read
        for other in others:
            other.cancel()
        wait(others)
    if any(failed):
        raise MemoryError("no room to search; free memory")
    return indices


def pointer(x: Tensor) -> ctypes.c_void_p:
    """Where the numbers of a contiguous tensor begin."""
    return ctypes.c_void_p(x.data_ptr())


@cache
def _pool() -> ThreadPoolExecutor:
    """Threads that wait for parts of a search."""
    return ThreadPoolExecutor(max(1, (os.cpu_count() or 1) - 1), thread_name_prefix="vqkit-search")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of the threads
