"""A search for sums of entries, one of each of several codebooks."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.scores import nearest_several

ELEMENTS_PER_CHUNK = 2**22


@torch.no_grad()
def beam_search(z: Tensor, codebooks: Sequence[Codebook], beams: int) -> Tensor:
    """Entries whose sum is near to a vector: the best of several sums that are followed at a time.

    Args:
        z: Vectors. (N, D)
        codebooks: One for each stage.
        beams: Number of sums to follow.

    Returns:
        Indices. (N, Q) int64
    """
    num = max(1, ELEMENTS_PER_CHUNK // (beams * beams * max(1, z.shape[-1])))
    found = [_search(chunk, codebooks, beams) for chunk in z.split(num)]
    return torch.cat(found) if found else z.new_zeros(0, len(codebooks), dtype=torch.int64)


def _search(z: Tensor, codebooks: Sequence[Codebook], beams: int) -> Tensor:
    """What ``beam_search`` does, all vectors at once."""
    sums = z.new_zeros(len(z), 1, z.shape[-1], dtype=codebooks[0].entries.dtype)
    indices = torch.zeros(len(z), 1, 0, dtype=torch.int64, device=z.device)
    for codebook in codebooks:
        left = codebook.project(z.unsqueeze(1) - sums)
        some = min(beams, codebook.size)
        near = nearest_several(left.flatten(0, 1), codebook.table, some).view(*left.shape[:2], some)
        longer = sums.unsqueeze(2) + codebook.lookup(near)
        errors = (z[:, None, None] - longer).square().sum(-1).flatten(1)
        best = errors.topk(min(beams, errors.shape[1]), largest=False).indices
        pick = best.unsqueeze(-1)
        sums = longer.flatten(1, 2).gather(1, pick.expand(-1, -1, z.shape[-1]))
        before = indices.gather(1, (pick // some).expand(-1, -1, indices.shape[-1]))
        indices = torch.cat([before, near.flatten(1).gather(1, best).unsqueeze(-1)], -1)
    return indices[:, 0]
