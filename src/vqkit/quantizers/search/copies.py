"""Which entries are copies of others: no vector can choose them, and they blur every score."""

from functools import cache

import torch
from torch import Tensor

from vqkit import random

ROWS_PER_CHUNK = 2**11


def are_worth_finding(z: Tensor, entries: Tensor) -> bool:
    """Whether copies of entries (K, D) cost a search for vectors (N, D) more than to find them.

    On a GPU they do not: nobody waits there for scores that are close.
    """
    return z.is_cpu and len(z) >= len(entries) // 4


@cache
def factors(dim: int) -> Tensor:
    """What the bits of each coordinate are multiplied by in a hash. (D,) int64"""
    return random.hash_tensor(torch.arange(dim)) | 1


def are_copies(entries: Tensor) -> Tensor:
    """Which entries are equal, bit for bit, to one before them.

    Some may be missed, when unequal entries have equal hashes; none is taken for what it is not.

    Args:
        entries: Codebook entries. (K, D) float32 or float64

    Returns:
        (K,) bool
    """
    bits = entries.contiguous().view(torch.int32 if entries.element_size() == 4 else torch.int64)
    odd = factors(entries.shape[1]).to(entries.device)
    hashes = torch.cat([(part * odd).sum(1) for part in bits.split(ROWS_PER_CHUNK)])
    ordered, places = hashes.sort(stable=True)
    found = torch.zeros_like(hashes, dtype=torch.bool)
    (alike,) = (ordered[1:] == ordered[:-1]).nonzero(as_tuple=True)
    if len(alike) == 0:
        return found
    first, second = places[alike], places[alike + 1]
    for some, others in zip(first.split(ROWS_PER_CHUNK), second.split(ROWS_PER_CHUNK), strict=True):
        found[others] = (bits[some] == bits[others]).all(1)
    return found
