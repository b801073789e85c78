"""An autoregressive prior: a decoder-only Transformer over the integers of an item."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import LevelSpec
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.conditioner import Conditioned
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.lengths import Lengths
from vqkit.priors.sequence import SequencePrior, TransformerSize, memory_of, reach
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransformerConfig(TransformerSize):
    """A decoder-only Transformer over the code sequence."""

    type: Literal["transformer"] = "transformer"

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "TransformerPrior":
        """The prior over codes of these levels, with new weights."""
        return TransformerPrior(specs, conditioning, lengths, config=self)


class TransformerPrior(SequencePrior):
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
        self._config = config or TransformerConfig()
        super().__init__(specs, conditioning, lengths, self._config)

    @property
    def config(self) -> TransformerConfig:
        return self._config

    def hidden(self, flat: Tensor, mask: Tensor | None, told: Conditioned) -> Tensor:
        num = reach(mask, flat.shape[1])
        before = self.embedding(flat[:, : num - 1], None if mask is None else mask[:, : num - 1])
        begin = self.embedding.nothing.expand(len(flat), 1, -1)
        added = self.places()[:num] + told.at_slots(self.specs)[:, :num]
        x = torch.cat([begin, before], dim=1) + added
        return self.transformer(self.dropout(x), memory=memory_of(told))

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
