"""A first codebook from vectors: greedy k-means++ and a few Lloyd steps."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit import random
from vqkit.quantizers.checks import are_finite
from vqkit.quantizers.search import full_precision, nearest

MAX_SEQUENTIAL = 4096  # above, entries are drawn in rounds: the sequential start costs K passes
MAX_START_VECTORS = 2**16  # 16 for each of so many entries
ROUNDS = 8
TRIALS = 8
NOISE = 1e-2
ROWS = 4096  # vectors that are compared at a time
FURTHER = 1.9  # how far past the old place entries move toward their means, in all steps but ...
PLAIN = 2  # ... so many, the last ones


@dataclass(frozen=True, slots=True)
class Started:
    """First entries, and how many vectors each stands for.

    Attributes:
        entries: The mean of its vectors, each. (K, D)
        counts: Number of these vectors. (K,) int64
    """

    entries: Tensor
    counts: Tensor


@torch.no_grad()
def kmeans(vectors: Tensor, size: int, *, seed: int, iterations: int = 10) -> Started:
    """Entries that stand for vectors with little squared error.

    k-means++, https://theory.stanford.edu/~sergei/papers/kMeansPP-soda.pdf, in its greedy form:
    of several draws the one that leaves the least error is kept. Fewer vectors than entries are
    no error: each is an entry, and the rest are noisy copies that stand for nothing.

    Args:
        vectors: What to stand for. (N, D)
        size: Number of entries K.
        seed: What every draw depends on.
        iterations: Number of Lloyd steps; above 4,096 entries at most N / K.

    Raises:
        ValueError: If there are no vectors, or one is not finite.
    """
    check_vectors(vectors)
    # Not bfloat16 under autocast, nor TF32.
    with torch.autocast(vectors.device.type, enabled=False), full_precision(vectors.device.type):
        return _kmeans(vectors, size, seed, iterations)


def _kmeans(vectors: Tensor, size: int, seed: int, iterations: int) -> Started:
    """What ``kmeans`` does, in full precision."""
    if len(vectors) <= size:
        entries = vectors[torch.arange(size, device=vectors.device) % len(vectors)]
    else:
        if size <= MAX_SEQUENTIAL:
            entries = sequential_start(thinned(vectors, seed), size, seed)
        else:
            entries = start_in_rounds(vectors, size, seed)
            # A mean of few vectors is soon where it stays, and each step costs N K D.
            iterations = min(iterations, len(vectors) // size)
    return refined(vectors, entries, seed, iterations if len(vectors) > size else 0)


@torch.no_grad()
def refined(vectors: Tensor, entries: Tensor, seed: int, iterations: int) -> Started:
    """Entries after Lloyd's algorithm; those that stand for nothing become noisy copies.

    Args:
        vectors: What the entries stand for. (N, D)
        entries: The first ones. (K, D)
        seed: What the draws for empty clusters depend on.
        iterations: Number of steps at most.
    """
    entries = lloyd_steps(vectors, entries, seed, iterations)
    counts = _counts(nearest(vectors, entries), len(entries))
    if (unused := counts == 0).any():
        scale = NOISE * vectors.std(0, correction=0)
        entries[unused] += scale * noise(entries, seed)[unused]
    return Started(entries, counts)


def lloyd_steps(vectors: Tensor, entries: Tensor, seed: int, iterations: int) -> Tensor:
    """Steps of Lloyd's algorithm, until nothing moves; arguments as for ``refined``. (K, D)

    All but the last go nearly twice as far: for the same vectors n |c + r (m - c) - m|^2 is
    n (1 - r)^2 |c - m|^2, so the error falls for any r between 0 and 2, and fewer steps are needed.
    """
    for iteration in range(iterations):
        reach = FURTHER if iteration < iterations - PLAIN else 1.0
        own = random.hash_int(seed, iteration)
        before, entries = entries, lloyd_step(vectors, entries, own, reach)
        if torch.equal(before, entries):
            break
    return entries


def check_vectors(vectors: Tensor) -> None:
    """Raises ValueError if there are no vectors, or one is not finite. (N, D)"""
    if len(vectors) == 0:
        raise ValueError("vectors are none; give at least one to start a codebook from")
    if not are_finite(vectors):
        raise ValueError("vectors hold values that are not finite; look for the cause before")


def noise(like: Tensor, seed: int) -> Tensor:
    """Normal random numbers, the same on every device. (M, D) -> (M, D)"""
    made = torch.randn(like.shape, generator=random.generator(seed), dtype=like.dtype)
    return made.to(like.device)


def thinned(vectors: Tensor, seed: int) -> Tensor:
    """At most MAX_START_VECTORS of the vectors, chosen at random. (N, D) -> (M, D)"""
    if len(vectors) <= MAX_START_VECTORS:
        return vectors
    keys = random.hash_tensor(seed, torch.arange(len(vectors), device=vectors.device))
    return vectors[keys.topk(MAX_START_VECTORS).indices]


def sequential_start(vectors: Tensor, size: int, seed: int) -> Tensor:
    """Greedy k-means++: each next entry is the best of several vectors drawn by squared error."""
    points = vectors - vectors.mean(0)  # far from the origin products lose the digits that matter
    norms = points.square().sum(-1)
    errors = norms.new_full((len(points),), torch.inf)
    chosen = torch.zeros(size, dtype=torch.int64, device=points.device)
    trials = torch.arange(TRIALS, device=points.device)
    for k in range(size):
        weights = torch.ones_like(errors) if k == 0 else errors
        drawn = draw(weights, random.uniform(seed, k, trials))
        distances = norms + norms[drawn, None] - 2 * points[drawn] @ points.T
        left = torch.minimum(distances.clamp_(min=0), errors)
        best = left.sum(-1).argmin()
        chosen[k], errors = drawn[best], left[best]
    return vectors[chosen]


def start_in_rounds(vectors: Tensor, size: int, seed: int) -> Tensor:
    """Draws by squared error, many at a time: the cost does not grow with K passes.

    Scalable k-means++, https://arxiv.org/abs/1203.6402, with as many draws as entries are wanted.
    """
    entries = vectors[:0]
    errors = torch.ones_like(vectors[:, 0])
    rows = torch.arange(len(vectors), device=vectors.device)
    for done in range(ROUNDS):
        num = (size - len(entries)) // (ROUNDS - done)
        keys = -random.uniform(seed, done, rows).log() / errors
        new = vectors[keys.topk(num, largest=False).indices]
        entries = torch.cat([entries, new])
        distances = squared_gaps(vectors, new, nearest(vectors, new))
        errors = distances if done == 0 else torch.minimum(errors, distances)
    return entries


def lloyd_step(vectors: Tensor, entries: Tensor, seed: int, reach: float = 1.0) -> Tensor:
    """Moves each entry to the mean of its vectors, and each without any to a vector far from its.

    Args:
        vectors: What the centres stand for. (N, D)
        entries: Centres. (K, D)
        seed: What the draws for empty clusters depend on.
        reach: How far entries go toward the means, where 1 is to them; less than 2.

    Returns:
        Better centres. (K, D)
    """
    size = len(entries)
    indices = nearest(vectors, entries)
    counts = _counts(indices, size)
    sums, center = torch.zeros_like(entries), entries.mean(0)
    for first in range(0, len(vectors), ROWS):  # centred, so that sums keep their digits
        block = slice(first, first + ROWS)
        sums.index_add_(0, indices[block], vectors[block] - center)
    means = sums.div_(counts.clamp(min=1).unsqueeze(-1)).add_(center)
    if reach != 1:
        means = torch.lerp(entries, means, reach)
    empty = (counts == 0).nonzero().flatten()[: len(vectors)]
    if num := len(empty):
        errors = squared_gaps(vectors, entries, indices)
        rows = torch.arange(len(vectors), device=vectors.device)
        keys = -random.uniform(seed, rows).log() / errors
        means[empty] = vectors[keys.topk(num, largest=False).indices]
    return means


def squared_gaps(vectors: Tensor, entries: Tensor, indices: Tensor) -> Tensor:
    """The squared distance of each vector (N, D) from its entry, of (K, D). (N,)"""
    errors = torch.empty_like(vectors[:, 0])
    for first in range(0, len(vectors), ROWS):
        block = slice(first, first + ROWS)
        gaps = entries[indices[block]].sub_(vectors[block])
        torch.sum(gaps.square_(), -1, out=errors[block])
    return errors


def draw(weights: Tensor, uniforms: Tensor) -> Tensor:
    """Indices drawn with probability proportional to weights, by the inverse of their sum.

    Args:
        weights: At least 0 each. (N,)
        uniforms: Numbers between 0 and 1. (T,) float64

    Returns:
        Indices. (T,) int64
    """
    edges = weights.double().cumsum(0)
    return torch.searchsorted(edges, uniforms * edges[-1], right=True).clamp(max=len(weights) - 1)


def _counts(indices: Tensor, size: int) -> Tensor:
    """How often each index occurs. (N,) -> (K,) int64"""
    return indices.new_zeros(size).index_add_(0, indices, torch.ones_like(indices))
