"""A first codebook that begins in few principal directions of the vectors."""

import torch
from torch import Tensor

from vqkit import random
from vqkit.quantizers.kmeans import Started, check_vectors, kmeans, lloyd_steps, refined
from vqkit.quantizers.search import full_precision

STEPS = 10
"""Lloyd steps in each number of directions but the last."""


@torch.no_grad()
def progressive(vectors: Tensor, size: int, *, seed: int, iterations: int = 10) -> Started:
    """Centres of the first principal direction, then of the first 2, 4, 8 and so on.

    Improved Residual Vector Quantization for High-dimensional Approximate Nearest Neighbor Search,
    section 3.1, https://arxiv.org/abs/1509.05195: where vectors are long and few for each entry,
    as what stages leave, the centres of the directions that matter are found first, and the
    error is smaller than after any start in all directions at once.

    Args:
        vectors: What to stand for. (N, D)
        size: Number of entries K.
        seed: What every draw depends on.
        iterations: Number of Lloyd steps in all directions.

    Raises:
        ValueError: If there are no vectors, or one is not finite.
    """
    check_vectors(vectors)
    if len(vectors) <= size:
        return kmeans(vectors, size, seed=seed)
    with torch.autocast(vectors.device.type, enabled=False), full_precision(vectors.device.type):
        center = vectors.mean(0)
        turned = vectors - center
        directions = principal_directions(turned)
        turned = turned @ directions
        keys = random.hash_tensor(seed, torch.arange(len(turned), device=turned.device))
        centres = turned[keys.topk(size).indices, :1]
        for number in (2**power for power in range(100)):
            if number >= turned.shape[1]:
                break
            some = turned[:, :number].contiguous()
            centres = torch.nn.functional.pad(centres, (0, number - centres.shape[1]))
            centres = lloyd_steps(some, centres, random.hash_int(seed, number), STEPS)
        centres = torch.nn.functional.pad(centres, (0, turned.shape[1] - centres.shape[1]))
        return refined(vectors, centres @ directions.T + center, seed, iterations)


def principal_directions(centred: Tensor) -> Tensor:
    """Directions of the largest variance first, as columns. (N, D) -> (D, D)"""
    squares = (centred.T @ centred).double()
    return torch.linalg.eigh(squares).eigenvectors.flip(1).to(centred.dtype)
