"""Exact search for the nearest codebook entry."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.backends import cuda, mkldnn

SCORES_PER_CHUNK = 2**19  # 2 MB: what the matmul writes is still in cache when argmax reads it
MORE_ON_GPU = 16  # fewer, larger kernels
ENTRIES_PER_CHUNK = 2**13  # with more, chunks of so few vectors that the matmul slows down
GROUP = 64


def nearest(z: Tensor, entries: Tensor) -> Tensor:
    """Index of the entry closest to each vector in Euclidean distance, the lowest one on ties.

    |z - e|^2 = |z|^2 - 2 (z.e - |e|^2 / 2), and |z|^2 is the same for every entry: the nearest
    entry has the largest product of (z, 1) with (e, -|e|^2 / 2).

    Args:
        z: Vectors; searched in float32, or in float64 when they or the entries are. (..., D)
        entries: Codebook entries. (K, D)

    Returns:
        Indices. (...) int64

    Raises:
        ValueError: If the vectors and the entries have different lengths.
    """
    dim = entries.shape[1]
    if z.dim() == 0 or z.shape[-1] != dim:
        found = f"vectors of length {z.shape[-1]}" if z.dim() else "no axis"
        raise ValueError(f"z has {found}, the codebook needs {dim}")
    # Compiled code calls the search as it is: tracing would freeze the user's precision in it.
    return _opaque_search(z, entries) if torch.compiler.is_compiling() else search(z, entries)


@torch.no_grad()
def search(z: Tensor, entries: Tensor) -> Tensor:
    """What ``nearest`` does, for vectors and entries whose lengths agree."""
    size, dim = entries.shape
    dtype = torch.promote_types(torch.promote_types(z.dtype, entries.dtype), torch.float32)
    center, blocks = table_of(entries.to(dtype))
    vectors = z.reshape(-1, dim)
    indices = torch.empty(len(vectors), dtype=torch.int64, device=z.device)
    width = blocks[0].shape[1]
    num_scores = SCORES_PER_CHUNK * (MORE_ON_GPU if z.is_cuda else 1)
    num_rows = max(1, min(len(vectors), num_scores // width))
    rows = torch.ones(num_rows, dim + 1, dtype=dtype, device=z.device)
    scores = torch.empty(num_rows * width, dtype=dtype, device=z.device)
    with full_precision(z.device.type):
        for chunk, out in zip(vectors.split(num_rows), indices.split(num_rows), strict=True):
            torch.sub(chunk, center, out=rows[: len(chunk), :-1])
            out.copy_(largest_product(rows[: len(chunk)], blocks, scores))
    # The last group is filled with copies of the last entry; a copy that wins is that entry.
    return indices.clamp_(max=size - 1).view(z.shape[:-1])


_opaque_search = torch.library.custom_op("vqkit::nearest", search, mutates_args=())


@_opaque_search.register_fake
def _(z: Tensor, entries: Tensor) -> Tensor:
    return z.new_empty(z.shape[:-1], dtype=torch.int64)


def table_of(entries: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """What vectors are multiplied by: a column (e, -|e|^2 / 2) for each centred entry e.

    Args:
        entries: Codebook entries. (K, D)

    Returns:
        The mean of the entries (D,), and the table in parts, each a whole number of groups
        wide: copies of the last entry fill the last. Each (D + 1, K)
    """
    center = entries.mean(0)  # far from the origin the products lose the digits that matter
    columns = (entries - center).T
    table = torch.cat([columns, columns.square().sum(0, keepdim=True).mul_(-0.5)])
    if num_missing := -len(entries) % GROUP:
        table = torch.cat([table, table[:, -1:].expand(-1, num_missing)], dim=1)
    return center, table.split(ENTRIES_PER_CHUNK, dim=1)


def largest_product(rows: Tensor, blocks: tuple[Tensor, ...], scores: Tensor) -> Tensor:
    """Which column of a table has the largest product with each vector, the lowest one on ties.

    Args:
        rows: Vectors. (N, D)
        blocks: The table in parts, each a whole number of groups wide. Each (D, K)
        scores: Room for the products with any of the parts; overwritten. (N K,)

    Returns:
        Indices. (N,) int64
    """
    best, winner = argmax(_products(rows, blocks[0], scores))
    first = blocks[0].shape[1]
    for block in blocks[1:]:
        value, index = argmax(_products(rows, block, scores))
        winner = torch.where(value > best, index + first, winner)
        best = torch.maximum(best, value)
        first += block.shape[1]
    return winner


def _products(rows: Tensor, block: Tensor, scores: Tensor) -> Tensor:
    """The products (N, K) of vectors (N, D) with a part of the table (D, K), kept in ``scores``."""
    shape = (len(rows), block.shape[1])
    return torch.mm(rows, block, out=scores[: shape[0] * shape[1]].view(shape))


def argmax(scores: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's largest score and its index, the lowest one on ties.

    Torch finds a maximum several times faster than its index, so the index is only sought inside
    the group that holds the maximum.

    Args:
        scores: One row per vector, a whole number of groups long. (N, K)

    Returns:
        Scores (N,) and indices (N,) int64.
    """
    groups = scores.view(-1, GROUP)
    per_row = scores.shape[1] // GROUP
    best = groups.amax(-1).view(-1, per_row).max(-1).indices
    rows = torch.arange(0, len(groups), per_row, device=scores.device)
    value, index = groups.index_select(0, rows.add_(best)).max(-1)
    return value, index.add_(best, alpha=GROUP)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Float32 products inside, whatever the user chose: TF32 and bfloat16 pick other entries.

    Autocast needs no care: it leaves products that are written ``out=`` as they are.
    """
    backends: Any = cuda if device_type == "cuda" else mkldnn
    backend = backends.matmul
    chosen = backend.fp32_precision
    backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        backend.fp32_precision = chosen
