"""Vectors to start the codebooks from: of several batches, and of all ranks."""

from collections.abc import Iterable

import torch
from torch import Tensor

from vqkit import distributed, random
from vqkit.quantizers.base import Quantizer

MAX_VECTORS = 262_144  # 64 MB at D = 64, and several hundred for each entry of usual codebooks


def real_values(x: Tensor, mask: Tensor | None) -> Tensor:
    """The items themselves, or their real positions alone.

    Args:
        x: Items. (B, C, *grid)
        mask: True where x is real; None when all is. (B, *grid) bool

    Returns:
        (B, C, *grid), or (N, C) of the N real positions.
    """
    return x if mask is None else x.movedim(1, -1)[mask]


def joined_vectors(batches: Iterable[Tensor], num_batches: int, seed: int) -> Tensor:
    """The vectors of all batches and ranks, thinned out evenly if they are too many.

    Args:
        batches: Vectors of this rank; every rank has as many batches. Each (N, D)
        num_batches: How many batches there are, at least 1.
        seed: What the choice of vectors depends on.

    Returns:
        The same on every rank, as one process would have them on the joined batches. (N, D)
    """
    limit = max(1, MAX_VECTORS // num_batches)
    kept: list[Tensor] = []
    for number, batch in enumerate(batches):
        vectors = distributed.gather_rows(batch)
        if len(vectors) > limit:
            rows = torch.arange(len(vectors), device=vectors.device)
            order = random.uniform(seed, number, rows).argsort()
            vectors = vectors[order[:limit].sort().values]
        kept.append(vectors)
    return torch.cat(kept)


def check_enough(quantizer: Quantizer, num_vectors: int) -> None:
    """Raises ValueError if a codebook has more entries than there are vectors to start from."""
    largest = max((len(codebook.entries) for codebook in quantizer.codebooks()), default=0)
    if num_vectors < largest:
        raise ValueError(
            f"codebook_size is {largest}, but there are {num_vectors} vectors to start from; "
            "lower codebook_size, or give more data"
        )
