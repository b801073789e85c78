"""The pass from the coarsest level of codes to the finest; a plain VQ-VAE has one."""

from collections.abc import Callable, Iterable, Sequence
from typing import overload

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.codes import Codes
from vqkit.quantizers.base import Quantizer

POOLS = {1: F.adaptive_max_pool1d, 2: F.adaptive_max_pool2d, 3: F.adaptive_max_pool3d}


def descend(
    features: Sequence[Tensor],
    top_down: Sequence[nn.Module] | nn.ModuleList,
    quantize: Callable[[int, Tensor], Tensor],
) -> list[Tensor]:
    """Quantizes each level, those below the coarsest given what the levels above became.

    Generating Diverse High-Fidelity Images with VQ-VAE-2, algorithm 1,
    https://arxiv.org/abs/1906.00446

    Args:
        features: What the encoder gave for each level, coarsest first. Each (B, D, *grid)
        top_down: One module for each level but the coarsest, from its features and the quantized
            vectors of all coarser levels to what is quantized; none to quantize the features.
        quantize: From a level's number and its vectors (B, *grid, D) to quantized ones
            (B, D, *grid).

    Returns:
        Quantized vectors of each level. Each (B, D, *grid)
    """
    z_q: list[Tensor] = []
    for level, feature in enumerate(features):
        if level > 0 and len(top_down) > 0:
            feature = top_down[level - 1](feature, *z_q)
        z_q.append(quantize(level, feature.movedim(1, -1)))
    return z_q


def channels_first(z_q: Tensor, dtype: torch.dtype) -> Tensor:
    """Quantized vectors as convolutions read them.

    Always in one layout: convolutions of another layout differ in the last bits.

    Args:
        z_q: Vectors. (B, *grid, D)
        dtype: What the decoder computes in.

    Returns:
        Vectors. (B, D, *grid)
    """
    return z_q.contiguous().movedim(-1, 1).to(dtype)


@overload
def level_mask(mask: Tensor, grid: Iterable[int]) -> Tensor: ...
@overload
def level_mask(mask: Tensor | None, grid: Iterable[int]) -> Tensor | None: ...
def level_mask(mask: Tensor | None, grid: Iterable[int]) -> Tensor | None:
    """Which codes stand for anything real: those with any real input in their part of the item.

    Args:
        mask: True where the item is real; None when all is. (B, *input grid) bool
        grid: Lengths of the code grid's axes.

    Returns:
        (B, *grid) bool, or None
    """
    grid = tuple(grid)
    if mask is None or tuple(mask.shape[1:]) == grid:
        return mask
    if len(grid) != mask.dim() - 1 or len(grid) not in POOLS:
        real = mask.flatten(1).any(1)  # no part of the item belongs to one code
        return real.reshape(-1, *[1] * len(grid)).expand(-1, *grid)
    return POOLS[len(grid)](mask.unsqueeze(1).float(), grid).squeeze(1) > 0


def check_codes(codes: Codes, quantizers: Sequence[Quantizer]) -> None:
    """Raises ValueError unless the codes are of these quantizers' levels, and in range."""
    own = [(quantizer.codebook_sizes, quantizer.structure) for quantizer in quantizers]
    given = [(level.codebook_sizes, level.structure) for level in codes.levels]
    if own != given:
        raise ValueError(
            f"the codes are of another tokenizer: their levels are {given} and the model's {own} "
            "(codebook sizes, structure); decode them with the model that made them"
        )
    for number, level in enumerate(codes.levels):
        sizes = torch.tensor(level.codebook_sizes, device=level.indices.device)
        if ((level.indices < 0) | (level.indices >= sizes)).any():
            low, high = level.indices.min().item(), level.indices.max().item()
            raise ValueError(
                f"indices of level {number} go from {low} to {high}, but its codebook sizes are "
                f"{level.codebook_sizes}; give integers from 0 to below them"
            )
