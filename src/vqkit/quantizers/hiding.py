"""Positions that are hidden in training, at random: single ones, or blocks of a grid."""

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit import random
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Hiding:
    """Positions that get no code in training, at random, so that the others tell nothing of them.

    Masked Autoencoders Are Scalable Vision Learners, https://arxiv.org/abs/2111.06377, hides
    single positions; BEiT, https://arxiv.org/abs/2106.08254, blocks of them.
    """

    share: Annotated[float, Field(gt=0, lt=1)] = 0.25
    """Share of all positions that are hidden in a training batch, on average."""
    block: Annotated[int, Field(ge=1)] = 1
    """Length of the blocks that are hidden whole, along every axis of the grid; where they begin
    differs from item to item."""


def hidden(
    hiding: Hiding, words: tuple[Tensor, Tensor], places: Tensor, items: Tensor | None
) -> Tensor:
    """Which positions are hidden.

    Args:
        hiding: How many, and in blocks of which length.
        words: Seed and step, on which the draws depend.
        places: The number of each position among all of the step. (B, *grid) int64, or (N,)
        items: The number of each item among all of the step; None for single positions. (B,) int64

    Returns:
        (B, *grid) bool, or (N,)
    """
    if items is None:
        return random.uniform(*words, places, 2) < hiding.share
    items = items.view(-1, *[1] * (places.dim() - 1))
    blocks: list[Tensor] = []
    for axis, length in enumerate(places.shape[1:], start=1):
        begin = random.uniform(*words, items, 3, axis) * hiding.block
        along = torch.arange(length, device=places.device)
        along = along.view(-1, *[1] * (places.dim() - 1 - axis))
        blocks.append((along + begin.long()) // hiding.block)
    return random.uniform(*words, items, 4, *blocks) < hiding.share
