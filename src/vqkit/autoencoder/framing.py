"""Items of any length: padded to what the encoder's strides divide, and cut again."""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.autoencoder.hierarchy import level_mask


def whole(encoder: nn.Module, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Items padded at the end to a size that the encoder takes.

    An encoder that takes items of any size says so by a method ``padded(grid)``, which gives the
    size that its strides divide. Items of other encoders stay as they are.

    Args:
        encoder: That shall read them.
        x: Items. (B, C, *grid)
        mask: True where x is real; None when all is. (B, *grid) bool

    Returns:
        Items and mask, with zeros where there was nothing; the mask is None where nothing was
        padded and all is real.
    """
    padded: Any = getattr(encoder, "padded", None)
    if padded is None:
        return x, mask
    own = tuple(x.shape[2:])
    lacking = [more - length for more, length in zip(padded(own), own, strict=True)]
    if not any(lacking):
        return x, mask
    ends = [amount for more in reversed(lacking) for amount in (0, more)]
    if mask is None:
        mask = x.new_ones(len(x), *own).bool()
    return F.pad(x, ends), F.pad(mask, ends)


def cut(x: Tensor, grid: tuple[int, ...]) -> Tensor:
    """The first so many positions along each axis of items. (B, C, *more) -> (B, C, *grid)"""
    return x if x.shape[2:] == grid else x[(..., *(slice(length) for length in grid))]


def code_mask(encoder: nn.Module, mask: Tensor | None, grid: tuple[int, ...]) -> Tensor | None:
    """Which vectors stand for anything real.

    An encoder whose positions are not equal shares of an item says which by a method
    ``code_mask(mask)``; see ``level_mask`` for all others.

    Args:
        encoder: That made them.
        mask: True where the padded item is real; None when all is. (B, *input grid) bool
        grid: Lengths of the axes of what is quantized.

    Returns:
        (B, *grid) bool, or None
    """
    own: Any = getattr(encoder, "code_mask", None)
    if own is None or mask is None:
        return level_mask(mask, grid)
    return own(mask)


def called(network: nn.Module, *inputs: Tensor, mask: Tensor | None) -> Any:
    """What a network makes of its inputs; one with ``reads_mask`` is told what is real.

    Args:
        network: An encoder or a decoder.
        inputs: Each (B, *, *grid)
        mask: True where they are real; None when all are. (B, *grid) bool
    """
    if getattr(network, "reads_mask", False):
        return network(*inputs, mask=mask)
    return network(*inputs)
