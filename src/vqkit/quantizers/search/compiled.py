"""Search by a loop in C, several times faster, where the package was built with a compiler."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from vqkit.compiled import failed_in_parts, load, pointer

NAME, FILES = "_nearest", ("nearest.c", "nearest_kernel.h")  # see setup.py
WIDEST = 16  # numbers in a vector of the processor; 8 for AVX2 and NEON, 4 without any of these
PRODUCTS_PER_THREAD = 2**22  # with fewer, handing over costs more than it saves


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where nothing was built that this machine can load."""
    loaded = load(Path(__file__).parent, NAME, FILES)
    if loaded is not None:
        loaded.vqkit_table_bytes.restype = ctypes.c_int64
    return loaded


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

    if failed_in_parts(part, len(z), len(z) * entries.numel() // PRODUCTS_PER_THREAD):
        raise MemoryError("no room to search; free memory")
    return indices
