"""What a codebook begins with: centres of the data, some vectors, or random numbers."""

from typing import Literal

import torch
from torch import Tensor

from vqkit import random
from vqkit.quantizers.kmeans import NOISE, Started, check_vectors, kmeans, noise

Start = Literal["kmeans", "data", "normal"]


@torch.no_grad()
def started(start: Start, vectors: Tensor, size: int, *, seed: int) -> Started:
    """The first entries, the same for the same vectors and seed.

    Args:
        start: "kmeans", see ``kmeans``; "data", see ``drawn``; "normal", see ``normal``.
        vectors: Where the entries come from. (N, D)
        size: Number of entries K.
        seed: What every draw depends on.

    Raises:
        ValueError: If there are no vectors, or one is not finite.
    """
    return STARTS[start](vectors, size, seed=seed)


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
    ordered = vectors[keys.argsort()]
    # Of equal vectors the first in this order; all further entries would never be used.
    unique, which = ordered.unique(dim=0, return_inverse=True)
    places = torch.arange(len(ordered), device=vectors.device)
    first = which.new_full((len(unique),), len(ordered)).scatter_reduce_(0, which, places, "amin")
    entries = ordered[first.sort().values[:size]]
    num = len(entries)
    entries = entries[torch.arange(size, device=entries.device) % num]
    entries[num:] += NOISE * vectors.std(0, correction=0) * noise(entries[num:], seed)
    return Started(entries, (torch.arange(size, device=entries.device) < num).long())


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


STARTS = {"kmeans": kmeans, "data": drawn, "normal": normal}
