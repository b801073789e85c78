"""Exact search for the nearest codebook entry."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda, mkldnn

SCORES_PER_CHUNK = 2**20  # 4 MB: what the matmul writes is still in cache when argmax reads it
GROUP = 64


@torch.no_grad()
def nearest(z: Tensor, entries: Tensor) -> Tensor:
    """Index of the entry closest to each vector in Euclidean distance, the lowest one on ties.

    |z - e|^2 = |z|^2 - 2 (z.e - |e|^2 / 2), and |z|^2 is the same for every entry: the nearest
    entry has the largest product of (z, 1) with (e, -|e|^2 / 2).

    Args:
        z: Vectors. (..., D)
        entries: Codebook entries. (K, D)

    Returns:
        Indices. (...) int64

    Raises:
        ValueError: If the vectors and the entries have different lengths.
    """
    size, dim = entries.shape
    if z.shape[-1] != dim:
        raise ValueError(f"z has vectors of length {z.shape[-1]}, the codebook needs {dim}")
    dtype = torch.promote_types(torch.promote_types(z.dtype, entries.dtype), torch.float32)
    z, entries = z.to(dtype), entries.to(dtype)
    center = entries.mean(0)  # far from the origin the products lose the digits that matter
    vectors, entries = z.reshape(-1, dim) - center, entries - center
    table = torch.cat([entries, -entries.square().sum(-1, keepdim=True) / 2], dim=-1)
    table = torch.cat([table, table[-1:].expand(-size % GROUP, -1)])  # whole groups
    chunks = vectors.split(max(1, SCORES_PER_CHUNK // len(table)))
    with full_precision(z.device.type):
        found = [argmax(F.pad(chunk, (0, 1), value=1.0) @ table.T) for chunk in chunks]
    # The last group is filled with copies of the last entry; a copy that wins is that entry.
    return torch.cat(found).clamp(max=size - 1).reshape(z.shape[:-1])


def argmax(scores: Tensor) -> Tensor:
    """Index of each row's largest score, the lowest one on ties.

    Torch finds a maximum several times faster than its index, so the index is only sought inside
    the group that holds the maximum.

    Args:
        scores: One row per vector, a whole number of groups long. (N, K)

    Returns:
        Indices. (N,) int64
    """
    groups = scores.unflatten(-1, (-1, GROUP))
    best = groups.amax(-1).argmax(-1)
    rows = torch.arange(len(scores), device=scores.device)
    return best * GROUP + groups[rows, best].argmax(-1)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Float32 products inside, whatever the user chose: autocast and TF32 pick other entries."""
    backends = (cuda.matmul, mkldnn.matmul)  # pyright: ignore[reportAttributeAccessIssue]
    chosen = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = "ieee"
        with torch.autocast(device_type, enabled=False):
            yield
    finally:
        for backend, precision in zip(backends, chosen, strict=True):
            backend.fp32_precision = precision
