"""Search by the flat index of Faiss, where it is installed and faster than torch's products."""

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from itertools import pairwise
from types import ModuleType

import torch
from torch import Tensor

from vqkit.quantizers.search.copies import are_copies, are_worth_finding
from vqkit.quantizers.search.products import Best, Table, full_precision, settle
from vqkit.quantizers.search.rounding import length

MORE_ENTRIES_THAN = 4096
LEAST_DIM = 64  # for shorter vectors the products of torch are as fast or faster
ENTRIES = 512  # that are compared at a time: half of what Faiss takes, as fast, with less memory
NUMBERS_PER_CHUNK = 2**17  # for fewer, Faiss uses no matrix products and is slower than torch


@cache
def library() -> ModuleType | None:
    """Faiss; None where it is not installed, or not looked for: torch's OpenMP may clash there."""
    if sys.platform != "linux":
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # its bindings are not the user's
        try:
            import faiss
        except ImportError:
            return None
    return faiss


def is_possible(z: Tensor, entries: Tensor) -> bool:
    """Whether Faiss can search and is faster: float32 on the CPU, and large enough."""
    size, dim = entries.shape
    is_large = size > MORE_ENTRIES_THAN and dim >= LEAST_DIM
    is_large = is_large and len(z) * (dim + 1) >= NUMBERS_PER_CHUNK
    return is_large and entries.is_cpu and entries.dtype == torch.float32 and library() is not None


def search(z: Tensor, entries: Tensor) -> Tensor:
    """The index of the nearest entry of each vector, the lowest one on ties.

    Faiss finds the two largest of the same scores that ``products`` finds, so the same bound on
    their rounding tells which of its choices are sure; distances in float64 decide the others.

    Args:
        z: Vectors. (N, D) float32
        entries: Codebook entries. (K, D) float32

    Returns:
        Indices. (N,) int64
    """
    faiss = library()
    assert faiss is not None
    center = entries.mean(0)
    columns = entries.new_empty(len(entries), entries.shape[1] + 1)
    torch.sub(entries, center, out=columns[:, :-1])
    halves = torch.cat([part.square().sum(1) for part in columns[:, :-1].split(ENTRIES)])
    longest = length(halves.amax(), entries.shape[1])
    columns[:, -1] = halves.mul_(-0.5)
    if are_worth_finding(z, entries):
        columns[:, -1].masked_fill_(are_copies(entries), -torch.inf)
    found = Best.empty(len(z), entries)
    squares = torch.empty_like(found.first)
    num_chunks = max(1, len(z) * columns.shape[1] // NUMBERS_PER_CHUNK)
    edges = [len(z) * i // num_chunks for i in range(num_chunks + 1)]
    rows = entries.new_ones(-(-len(z) // num_chunks), columns.shape[1])
    with _set(faiss):
        for first, last in pairwise(edges):
            some = rows[: last - first]
            torch.sub(z[first:last], center, out=some[:, :-1])
            torch.sum(some[:, :-1].square(), 1, out=squares[first:last])
            scores, indices = faiss.knn(
                some.numpy(), columns.numpy(), 2, faiss.METRIC_INNER_PRODUCT
            )
            two, places = torch.from_numpy(scores), torch.from_numpy(indices)
            found.put(slice(first, last), Best(two[:, 0], places[:, 0], two[:, 1]))
    with full_precision("cpu"):
        settle(z, entries, Table(center, (columns.T,), longest), found, squares)
    return found.index


@contextmanager
def _set(faiss: ModuleType) -> Iterator[None]:
    """As many threads inside as torch uses, and so many entries at a time."""
    threads, entries = faiss.omp_get_max_threads(), faiss.cvar.distance_compute_blas_database_bs
    faiss.omp_set_num_threads(torch.get_num_threads())
    faiss.cvar.distance_compute_blas_database_bs = ENTRIES
    try:
        yield
    finally:
        faiss.omp_set_num_threads(threads)
        faiss.cvar.distance_compute_blas_database_bs = entries
