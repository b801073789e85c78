"""An autoregressive prior: a decoder-only Transformer over the integers of an item."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.dropout import StatelessDropout
from vqkit.nn.transformer import Memory, Transformer
from vqkit.priors.autoregressive import AutoregressivePrior, NextLogits
from vqkit.priors.conditioner import Conditioned, Conditioner
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.embedding import CodeEmbedding, Places
from vqkit.priors.lengths import Lengths
from vqkit.schema import STRICT

Fraction = Annotated[float, Field(ge=0, lt=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransformerConfig:
    """A decoder-only Transformer over the code sequence."""

    type: Literal["transformer"] = "transformer"
    layers: Annotated[int, Field(ge=1)] = 4
    """Number of blocks."""
    width: Annotated[int, Field(ge=1)] = 256
    """Length of the vectors between the blocks."""
    heads: Annotated[int, Field(ge=1)] = 4
    """Number of attention heads; divides the width."""
    dropout: Fraction = 0.1
    """Probability of dropping an element in training; raise it for little data."""
    tied: bool = False
    """Whether one table embeds the integers and predicts them."""
    drop_conditioning: Fraction = 0.0
    """Probability of hiding labels and the like from it in training; 0.1 allows guidance."""

    @field_validator("heads")
    @classmethod
    def _divides_the_width(cls, heads: int, info: ValidationInfo) -> int:
        width = info.data.get("width")
        if width is not None and width % heads:
            raise ValueError(f"must divide the width, {width}")
        return heads

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "TransformerPrior":
        """The prior over codes of these levels, with new weights."""
        return TransformerPrior(specs, conditioning, lengths, config=self)


class TransformerPrior(AutoregressivePrior):
    """p(codes | label) as a product over the slots of ``Codes.flat``, each after those before it.

    Neural Discrete Representation Learning, section 3.3, https://arxiv.org/abs/1711.00937, with a
    Transformer for the PixelCNN. Every codebook has its own rows of one table; slots that share a
    codebook share them. A slot's input is the integer before it (nothing where that is masked), the
    slot's place in its grid, and what is known of the item.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.
        config: Widths and depth.
    """

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: TransformerConfig | None = None,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self._config = config = config or TransformerConfig()
        self.embedding = CodeEmbedding(specs, config.width, tied=config.tied)
        self.places = Places(specs, config.width)
        self.conditioner = Conditioner(
            self.conditioning,
            specs,
            config.width,
            drop=config.drop_conditioning,
            lengths=lengths is not None,
        )
        self.dropout = StatelessDropout(config.dropout)
        self.transformer = Transformer(
            config.width,
            num_layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
            memory=self.conditioning.vector_dim is not None,
        )

    @property
    def config(self) -> TransformerConfig:
        return self._config

    @property
    def needs_conditioning(self) -> bool:
        return not self.conditioning.is_empty and self._config.drop_conditioning == 0

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        nats = self.embedding.nats(self._hidden(flat, mask, given), flat)
        return nats if mask is None else nats.masked_fill(~mask, 0)

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
        return self.embedding.every_logits(self._hidden(flat, codes.flat_mask(), given))

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        told = self.conditioner(given, num, mask)
        added = self.places() + told.at_slots(self.specs)
        cache = self.transformer.cache(num, len(self.slot_sizes), memory_of(told))
        codebooks = {place: slots for slots in self.slots for place in slots.places}
        begin = self.embedding.nothing.expand(num, -1)

        def next_logits(slot: int, previous: Tensor) -> Tensor:
            before = self.embedding.at(slot - 1, previous, mask) if slot else begin
            hidden = self.transformer.step(before + added[:, slot], cache)
            return self.embedding.logits(hidden, codebooks[slot])

        return next_logits

    def _hidden(self, flat: Tensor, mask: Tensor | None, given: Conditioning | None) -> Tensor:
        """What the integers of each slot are predicted from. (B, L, W)"""
        told = self.conditioner(self.check_given(given, len(flat)), len(flat), mask)
        before = self.embedding(flat, mask)[:, :-1]
        begin = self.embedding.nothing.expand(len(flat), 1, -1)
        x = torch.cat([begin, before], dim=1) + self.places() + told.at_slots(self.specs)
        return self.transformer(self.dropout(x), memory=memory_of(told))


def memory_of(told: Conditioned) -> Memory | None:
    """What the blocks of a Transformer read, if there is anything."""
    if told.memory is None or told.memory_mask is None:
        return None
    return Memory(told.memory, told.memory_mask)
