"""A Transformer that sees all positions which it may see: the network of discrete diffusion."""

from collections.abc import Sequence
from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.codes import LevelSpec
from vqkit.nn.dropout import StatelessDropout
from vqkit.nn.transformer import INIT_STD, Transformer
from vqkit.priors.conditioner import Conditioned, Conditioner
from vqkit.priors.conditioning import ConditioningSpec
from vqkit.priors.embedding import CodeEmbedding, Places
from vqkit.priors.sequence import TransformerSize, memory_of
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DenoiserSize(TransformerSize):
    """What the priors of discrete diffusion have in common."""

    # In Field, because docstrings under fields are not inherited.
    bound_draws: Annotated[
        int,
        Field(
            ge=1,
            description="From how many draws of noise the bound of an item is estimated; its "
            "error falls with their square root, and the time grows with them.",
        ),
    ] = 16


class Denoiser(nn.Module):
    """What stands at each slot, from what is seen of the item.

    A register stands before the slots and is always seen, so that there is something to read where
    nothing is known (Vision Transformers Need Registers, https://arxiv.org/abs/2309.16588).

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What the prior is told of the items.
        size: Widths and depth.
        lengths: Whether the network is told how long the items are.
    """

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec,
        size: DenoiserSize,
        *,
        lengths: bool,
    ) -> None:
        super().__init__()
        self.specs = tuple(specs)
        self.embedding = CodeEmbedding(specs, size.width, tied=size.tied)
        self.places = Places(specs, size.width)
        self.conditioner = Conditioner(
            conditioning, specs, size.width, drop=size.drop_conditioning, lengths=lengths
        )
        self.register = nn.Parameter(torch.empty(size.width))
        nn.init.normal_(self.register, std=INIT_STD)
        self.dropout = StatelessDropout(size.dropout)
        self.transformer = Transformer(
            size.width,
            num_layers=size.layers,
            heads=size.heads,
            dropout=size.dropout,
            causal=False,
            memory=conditioning.vector_dim is not None,
        )

    def added(self, told: Conditioned) -> Tensor:
        """What is added at each slot: where it lies, and what is known of the item. (B, L, W)"""
        return self.places() + told.at_slots(self.specs)

    def forward(self, x: Tensor, visible: Tensor, told: Conditioned) -> Tensor:
        """Vectors that predict what stands at slots, any of them in any order.

        What a slot that is not seen by others predicts does not depend on which other such slots
        there are.

        Args:
            x: What is known of each slot, with what is added there. (B, N, W)
            visible: Which slots are seen by others. (B, N) bool
            told: What is known of the items.

        Returns:
            (B, N, W)
        """
        register = (self.register + told.everywhere).unsqueeze(1)
        seen = torch.cat([visible.new_ones(len(x), 1), visible], dim=1)
        x = self.dropout(torch.cat([register, x], dim=1))
        return self.transformer(x, seen, memory_of(told))[:, 1:]
