"""Which items share codes, or the first of them."""

from collections.abc import Sequence

import torch
from torch import Tensor


def prefix_groups(indices: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The items that share their first code, their first two, and so on to all.

    Args:
        indices: Codes of each item in a row. (N, L) int64
        sizes: Number of entries of each of the L codebooks.

    Returns:
        For each length the number of the group of each item, from 0. L of (N,) int64
    """
    group, found = torch.zeros(len(indices), dtype=torch.int64, device=indices.device), []
    for codes, size in zip(indices.unbind(1), sizes, strict=True):
        group = (group * size + codes).unique(return_inverse=True)[1]
        found.append(group)
    return found


def collision_rate(group: Tensor) -> float:
    """The share of items whose group is that of another item, too; 0 without items. (N,) int64"""
    sizes = group.bincount()
    return float((sizes[group] > 1).double().mean()) if len(group) else 0.0


def purity(group: Tensor, labels: Tensor) -> float:
    """The share of items that have the most frequent label of their group.

    Introduction to Information Retrieval, equation 182,
    https://nlp.stanford.edu/IR-book/html/htmledition/evaluation-of-clustering-1.html. It is 1 where
    every item is a group of its own: judge it beside the number of groups.

    Args:
        group: Number of the group of each item. (N,) int64
        labels: Number of the class of each item. (N,) int64
    """
    num_labels = int(labels.max()) + 1
    counts = (group * num_labels + labels).bincount(minlength=(int(group.max()) + 1) * num_labels)
    return float(counts.view(-1, num_labels).amax(1).sum()) / len(group)
