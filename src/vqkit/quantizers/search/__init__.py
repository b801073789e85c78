"""Exact search for the nearest codebook entry: one front door."""

from collections.abc import Callable

import torch
from torch import Tensor

from vqkit.quantizers.search import compiled, flat, fused, products
from vqkit.quantizers.search.products import full_precision

__all__ = ["Search", "full_precision", "nearest", "prepared"]

Search = Callable[[Tensor], Tensor]


def nearest(z: Tensor, entries: Tensor) -> Tensor:
    """Index of the entry closest to each vector in Euclidean distance, the lowest one on ties.

    |z - e|^2 = |z|^2 - 2 (z.e - |e|^2 / 2), and |z|^2 is the same for every entry: the nearest
    entry has the largest score z.e - |e|^2 / 2. Scores are found in float32, or in float64 when
    the vectors or the entries are; where rounding could have swapped the two best, the distances
    themselves decide, in float64. So the choice does not depend on how the scores were found:
    neither the compiled search nor Faiss nor a GPU changes an index. Only on a GPU without Triton,
    and there for float64, do the scores alone decide.

    Args:
        z: Vectors. (..., D)
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
    if z.device != entries.device:
        raise ValueError(f"z is on {z.device}, the codebook on {entries.device}; move one of them")
    return torch.ops.vqkit.nearest.default(z, entries)


def prepared(entries: Tensor) -> Search:
    """The search for entries that stay as they are, made ready once for many calls.

    For a few vectors at a time, making ready takes longer than searching.

    Args:
        entries: Codebook entries; what is written to them later has no effect. (K, D)

    Returns:
        From vectors (..., D) to indices (...), as ``nearest`` gives them.
    """
    entries = entries.detach().clone()
    if not compiled.is_possible(entries, entries):
        return lambda z: nearest(z, entries)
    ready = compiled.Prepared(entries, len(entries))

    def search(z: Tensor) -> Tensor:
        if z.dtype != torch.float32 or not z.is_cpu or z.shape[-1:] != entries.shape[1:]:
            return nearest(z, entries)
        return ready(z.reshape(-1, z.shape[-1])).view(z.shape[:-1])

    return search


@torch.no_grad()
def _search(z: Tensor, entries: Tensor) -> Tensor:
    """What ``nearest`` does, for vectors and entries whose lengths agree."""
    dtype = torch.promote_types(torch.promote_types(z.dtype, entries.dtype), torch.float32)
    vectors, table = z.reshape(-1, z.shape[-1]).to(dtype), entries.to(dtype)
    ways = (compiled, fused, flat)
    here = next((way for way in ways if way.is_possible(vectors, table)), products)
    return here.search(vectors, table).view(z.shape[:-1])


# An operator of torch: what traces, compiles or transforms a program sees the search as one step,
# and only numbers reach it. Nothing in it can be traced into, the user's precision included.
_operators = torch.library.Library("vqkit", "DEF")
_operators.define(
    "nearest(Tensor z, Tensor entries) -> Tensor", tags=(torch.Tag.pt2_compliant_tag,)
)
_operators.impl("nearest", _search, "CompositeExplicitAutograd")


@torch.library.register_fake("vqkit::nearest")
def _(z: Tensor, entries: Tensor) -> Tensor:
    return z.new_empty(z.shape[:-1], dtype=torch.int64)
