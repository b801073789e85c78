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
    return Prepared(entries, len(z))(z)


class Prepared:
    """Entries as the loop reads them, for as many searches as one likes.

    Args:
        entries: Codebook entries, which must stay as they are. (K, D) float32
        num: Vectors that are going to be searched for, or about as many.
    """

    def __init__(self, entries: Tensor, num: int) -> None:
        functions = library()
        assert functions is not None
        self.functions, self.entries = functions, entries.contiguous()
        size, dim = (ctypes.c_int64(number) for number in entries.shape)
        self.room = torch.empty(functions.vqkit_table_bytes(size, dim), dtype=torch.uint8)
        self.table = (pointer(self.entries), size, dim, pointer(self.room))
        functions.vqkit_prepare(*self.table, ctypes.c_int64(num))

    def __call__(self, z: Tensor) -> Tensor:
        """Vectors (N, D) float32 to indices (N,) int64, as ``search`` gives them."""
        z = z.contiguous()
        indices = torch.empty(len(z), dtype=torch.int64)

        def part(first: int, last: int) -> int:
            count, most = ctypes.c_int64(last - first), ctypes.c_int64(WIDEST)
            rows = pointer(z[first:]), count, pointer(indices[first:]), most
            return self.functions.vqkit_nearest(*self.table, *rows)

        if failed_in_parts(part, len(z), len(z) * self.entries.numel() // PRODUCTS_PER_THREAD):
            raise MemoryError("no room to search; free memory")
        return indices
