"""What the priors have in common that read codes with a causal Transformer."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated

import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.dropout import StatelessDropout
from vqkit.nn.transformer import Memory, Transformer
from vqkit.priors.autoregressive import AutoregressivePrior
from vqkit.priors.conditioner import Conditioned, Conditioner
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.embedding import CodeEmbedding, Places
from vqkit.priors.lengths import Lengths
from vqkit.schema import STRICT, Heads


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransformerSize:
    """What the priors with a Transformer have in common."""

    # In Field, because docstrings under fields are not inherited.
    layers: Annotated[int, Field(ge=1, description="Number of blocks.")] = 4
    width: Annotated[int, Field(ge=1, description="Length of the vectors between the blocks.")] = (
        256
    )
    heads: Annotated[Heads, Field(description="Number of attention heads; divides the width.")] = 4
    dropout: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Probability of dropping an element in training; raise it for little data.",
        ),
    ] = 0.1
    tied: Annotated[
        bool, Field(description="Whether one table embeds the integers and predicts them.")
    ] = False
    drop_conditioning: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="Probability of hiding labels and the like from it in training; 0.1 allows "
            "guidance.",
        ),
    ] = 0.0


class SequencePrior(AutoregressivePrior):
    """A causal Transformer over a sequence that is made of the codes.

    A subclass says what the sequence is.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.
        size: Widths and depth.
    """

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None,
        lengths: Lengths | None,
        size: TransformerSize,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self.drop_conditioning = size.drop_conditioning
        self.embedding = CodeEmbedding(specs, size.width, tied=size.tied)
        self.places = Places(specs, size.width)
        self.conditioner = Conditioner(
            self.conditioning,
            specs,
            size.width,
            drop=size.drop_conditioning,
            lengths=lengths is not None,
        )
        self.dropout = StatelessDropout(size.dropout)
        self.transformer = Transformer(
            size.width,
            num_layers=size.layers,
            heads=size.heads,
            dropout=size.dropout,
            memory=self.conditioning.vector_dim is not None,
        )

    @property
    def needs_conditioning(self) -> bool:
        return not self.conditioning.is_empty and self.drop_conditioning == 0

    @abstractmethod
    def hidden(self, flat: Tensor, mask: Tensor | None, told: Conditioned) -> Tensor:
        """What the integers of each slot are predicted from.

        Args:
            flat: Integers, in the order of ``Codes.flat``. (B, L) int64
            mask: Which are real; None when all are. (B, L) bool
            told: What is known of the items.

        Returns:
            Of all slots, or of the first ones if none behind them is real. (B, up to L, W)
        """

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        hidden = self._hidden(flat, mask, given)
        nats = self.embedding.nats(hidden, flat[:, : hidden.shape[1]])
        if mask is None:
            return nats
        return F.pad(nats, (0, flat.shape[1] - nats.shape[1])).masked_fill(~mask, 0)

    def logits(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        """The logits of every slot, given the integers before it.

        Args:
            codes: Of the levels of ``specs``. B items
            given: What is known of the items.

        Returns:
            In the order of ``Codes.flat``; K is that of the largest codebook, and -inf stands
            where a slot's own has no entry. (B, L, K)
        """
        flat = self.check_codes(codes)
        hidden = self._hidden(flat, codes.flat_mask(), given)
        rest = flat.shape[1] - hidden.shape[1]
        return self.embedding.every_logits(F.pad(hidden, (0, 0, 0, rest)))

    def _hidden(self, flat: Tensor, mask: Tensor | None, given: Conditioning | None) -> Tensor:
        told = self.conditioner(self.check_given(given, len(flat)), len(flat), mask)
        return self.hidden(flat, mask, told)


def memory_of(told: Conditioned) -> Memory | None:
    """What the blocks of a Transformer read, if there is anything."""
    if told.memory is None or told.memory_mask is None:
        return None
    return Memory(told.memory, told.memory_mask)


def reach(mask: Tensor | None, length: int) -> int:
    """How many slots there are up to the last that is real in any item, at least 1.

    Args:
        mask: Which integers are real; None when all are. (B, L) bool
        length: Number of slots L.
    """
    if mask is None or not len(mask):
        return length
    real = mask.any(0).nonzero()
    return int(real[-1]) + 1 if len(real) else 1
