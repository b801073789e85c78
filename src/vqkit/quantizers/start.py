"""What a codebook begins with: centres of the data, some vectors, or random numbers."""

from typing import Literal

import torch
from torch import Tensor

from vqkit import random
from vqkit.quantizers.kmeans import NOISE, Started, check_vectors, kmeans, noise, refined
from vqkit.quantizers.progressive import progressive

Start = Literal["kmeans", "progressive", "data", "normal"]
CENTRES = {"kmeans": kmeans, "progressive": progressive}


@torch.no_grad()
def started(
    start: Start, vectors: Tensor, size: int, *, seed: int, steps: int | None = None
) -> Started:
    """The first entries, the same for the same vectors and seed.

    Args:
        start: "kmeans", see ``kmeans``; "progressive", see ``progressive``; "data", see ``drawn``;
            "normal", see ``normal``.
        vectors: Where the entries come from. (N, D)
        size: Number of entries K.
        seed: What every draw depends on.
        steps: Number of steps of Lloyd's algorithm; None for the usual one: 10 where entries are
            centres, else none.

    Raises:
        ValueError: If there are no vectors, or one is not finite.
    """
    if start in CENTRES:
        options = {} if steps is None else {"iterations": steps}
        return CENTRES[start](vectors, size, seed=seed, **options)
    found = STARTS[start](vectors, size, seed=seed)
    return refined(vectors, found.entries, seed, steps) if steps else found


def drawn(vectors: Tensor, size: int, *, seed: int) -> Started:
    """Distinct vectors drawn at random, each of which stands for itself alone.

    Fewer distinct vectors than entries are no error: the rest are noisy copies that stand for
    nothing.

    Args:
        vectors: What is drawn from. (N, D)
        size: Number of entries K.
        seed: What the draws depend on.
    """
    check_vectors(vectors)
    keys = random.hash_tensor(seed, torch.arange(len(vectors), device=vectors.device))
    order = keys.argsort()
    ordered, first = distinct(vectors[order[: 2 * size]])
    if len(first) < size:
        ordered, first = distinct(vectors[order])
    entries = ordered[first.sort().values[:size]]
    num = len(entries)
    entries = entries[torch.arange(size, device=entries.device) % num]
    entries[num:] += NOISE * vectors.std(0, correction=0) * noise(entries[num:], seed)
    return Started(entries, (torch.arange(size, device=entries.device) < num).long())


def distinct(ordered: Tensor) -> tuple[Tensor, Tensor]:
    """Vectors (N, D) themselves, and where the first one of all that are equal is. (M,) int64"""
    # All further entries would never be used.
    unique, which = ordered.unique(dim=0, return_inverse=True)
    places = torch.arange(len(ordered), device=ordered.device)
    first = which.new_full((len(unique),), len(ordered))
    return ordered, first.scatter_reduce_(0, which, places, "amin")


def normal(vectors: Tensor, size: int, *, seed: int) -> Started:
    """Random numbers with the mean and the spread of each coordinate; they stand for nothing.

    Args:
        vectors: Whose mean and standard deviation they have. (N, D)
        size: Number of entries K.
        seed: What the numbers depend on.
    """
    check_vectors(vectors)
    mean, spread = vectors.mean(0), vectors.std(0, correction=0)
    entries = mean + spread * noise(mean.expand(size, -1), seed)
    return Started(entries, torch.zeros(size, dtype=torch.int64, device=vectors.device))


STARTS = {**CENTRES, "data": drawn, "normal": normal}
