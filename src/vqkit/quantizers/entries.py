"""The entries of codebooks as vectors, of any quantizer."""

import torch
from torch import Tensor

from vqkit.quantizers.base import Quantizer

MOST_ENTRIES = 2**20


@torch.no_grad()
def entry_vectors(quantizer: Quantizer) -> tuple[Tensor, ...]:
    """What each index of each codebook adds to the vector that indices decode to.

    The other codebooks are left at one index, and what does not depend on the codebook's own is
    taken away: the vectors of a stage are its entries less the first one. So distances between
    entries are those that the decoder sees.

    Args:
        quantizer: Any whose vectors depend on the codes of their own position alone.

    Returns:
        One table for each codebook, of those coordinates alone that it changes. Each (K, D)

    Raises:
        ValueError: If a codebook has too many entries, or decoding needs the whole grid.
    """
    if quantizer.reads_grid:
        raise ValueError(
            f"{type(quantizer).__name__} decodes whole grids, and its entries are no vectors of "
            "positions; take a prior that needs no embeddings"
        )
    sizes = quantizer.codebook_sizes
    for size in sizes:
        if size > MOST_ENTRIES:
            raise ValueError(
                f"a codebook has {size} entries, more than the {MOST_ENTRIES} that can be listed; "
                "take a prior that needs no embeddings"
            )
    device = next((tensor.device for tensor in quantizer.state_dict().values()), None)
    rest = torch.zeros(len(sizes), dtype=torch.int64, device=device)
    found = []
    for q, size in enumerate(sizes):
        if quantizer.structure == "selective":
            rest[0] = min(q, 1)  # a code stands for something only where it is kept
        indices = rest.repeat(size, 1)
        indices[:, q] = torch.arange(size, device=device)
        vectors = quantizer.decode(indices).detach()
        vectors = vectors - vectors[:1]
        changed = (vectors != 0).any(0)
        found.append(vectors[:, changed] if changed.any() else vectors[:, :1])
    return tuple(found)
