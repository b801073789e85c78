"""How often each integer occurred after each context, as a sorted list of what occurred."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CountTable(nn.Module):
    """How often each integer occurred after each context: a sorted list of what occurred.

    A key is context * K + integer, and a context is a number too.

    Args:
        size: Number K of integers.
        saved: Whether it is a part of what is saved.
    """

    keys: Tensor
    """What occurred, ascending. (N,) int64"""
    counts: Tensor
    """How often. (N,) int64"""
    sums: Tensor
    """How often all keys before each occurred, and all. (N + 1,) int64"""

    def __init__(self, size: int, *, saved: bool) -> None:
        super().__init__()
        self.size = size
        nothing = torch.zeros(0, dtype=torch.int64)
        self.register_buffer("keys", nothing, persistent=saved)
        self.register_buffer("counts", nothing.clone(), persistent=saved)
        self.register_buffer("sums", torch.zeros(1, dtype=torch.int64), persistent=False)

    def fill(self, keys: Tensor, counts: Tensor) -> None:
        """Takes other keys, any number of times each, and how often each occurred."""
        self.keys, self.counts = merged(keys, counts)
        self.sums = F.pad(self.counts.cumsum(0), (1, 0))

    def seen(self, contexts: Tensor, integers: Tensor) -> Tensor:
        """How often integers occurred after contexts. (N,), (N,) -> (N,) int64"""
        wanted = contexts * self.size + integers
        at = torch.searchsorted(self.keys, wanted)
        found = F.pad(self.keys, (0, 1), value=-1)[at] == wanted
        return torch.where(found, F.pad(self.counts, (0, 1))[at], 0)

    def totals(self, contexts: Tensor) -> Tensor:
        """How often anything occurred after contexts. (N,) -> (N,) int64"""
        first, end = self._range(contexts)
        return self.sums[end] - self.sums[first]

    def rows(self, contexts: Tensor) -> Tensor:
        """How often each integer occurred after contexts. (N,) -> (N, K) int64"""
        first, end = self._range(contexts)
        length, device = end - first, self.keys.device
        row = torch.arange(len(contexts), device=device).repeat_interleave(length)
        before = length.cumsum(0) - length
        at = torch.arange(len(row), device=device) + (first - before)[row]
        found = torch.zeros(len(contexts), self.size, dtype=torch.int64, device=device)
        found[row, self.keys[at] % self.size] = self.counts[at]
        return found

    def _range(self, contexts: Tensor) -> tuple[Tensor, Tensor]:
        """Where the keys of contexts begin and end. (N,) -> (N,), (N,) int64"""
        first = torch.searchsorted(self.keys, contexts * self.size)
        return first, torch.searchsorted(self.keys, (contexts + 1) * self.size)


def merged(keys: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """The same keys ascending, each once, with the sums of their counts. (N,) int64 each"""
    keys, order = keys.sort()
    keys, group = keys.unique_consecutive(return_inverse=True)
    return keys, torch.zeros_like(keys).index_add_(0, group, counts[order])
