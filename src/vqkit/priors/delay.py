"""A Transformer that draws the codebooks of a position one step after another, all in parallel."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.codes import LevelSpec
from vqkit.nn.transformer import INIT_STD
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.conditioner import Conditioned
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.lengths import Lengths
from vqkit.priors.sequence import SequencePrior, TransformerSize, memory_of, reach
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DelayTransformerConfig(TransformerSize):
    """A Transformer in whose sequence each codebook comes one step later than the one before."""

    type: Literal["delay_transformer"] = "delay_transformer"

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "DelayTransformerPrior":
        """The prior over codes of these levels, with new weights."""
        return DelayTransformerPrior(specs, conditioning, lengths, config=self)


class DelayTransformerPrior(SequencePrior):
    """p(codes | label) in the delay pattern: step s draws codebook q of position s - q.

    Simple and Controllable Music Generation, section 2.2 and figure 1,
    https://arxiv.org/abs/2306.05284. A level of P positions and Q codebooks takes P + Q - 1 steps
    instead of P Q. The codes of one step do not depend on each other: of one position, a codebook
    knows those before it; of one step, none knows the others. With one codebook it is the plain
    Transformer.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.
        config: Widths and depth.
    """

    steps: Tensor
    """The step in which each slot of ``Codes.flat`` is drawn. (L,) int64"""
    lookup: Tensor
    """The slot whose place and map each step has; of the last ones, that of the last position. (S,)
    int64"""
    late: Tensor
    """How many steps each step is after the last position of its level; else 0. (S,) int64"""

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: DelayTransformerConfig | None = None,
    ) -> None:
        self._config = config = config or DelayTransformerConfig()
        super().__init__(specs, conditioning, lengths, config)
        steps, lookup, late = delayed(specs)
        self.register_buffer("steps", steps, persistent=False)
        self.register_buffer("lookup", lookup, persistent=False)
        self.register_buffer("late", late, persistent=False)
        # What tells the steps after the last position apart, which have no place of their own.
        self.tail = nn.Parameter(torch.empty(int(late.max()) + 1, config.width))
        nn.init.normal_(self.tail, std=INIT_STD)

    @property
    def config(self) -> DelayTransformerConfig:
        return self._config

    @property
    def order(self) -> Tensor:
        return self.steps.argsort(stable=True)

    def hidden(self, flat: Tensor, mask: Tensor | None, told: Conditioned) -> Tensor:
        num = reach(mask, flat.shape[1])
        steps = self.steps[:num]
        vectors = self.embedding(flat[:, :num], None if mask is None else mask[:, :num])
        last = int(steps.max()) + 1
        drawn = vectors.new_zeros(len(flat), last, vectors.shape[-1]).index_add(1, steps, vectors)
        begin = self.embedding.nothing.expand(len(flat), 1, -1)
        x = torch.cat([begin, drawn[:, :-1]], dim=1) + self._added(told)[:, :last]
        return self.transformer(self.dropout(x), memory=memory_of(told))[:, steps]

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        told = self.conditioner(given, num, mask)
        added, steps, order = self._added(told), self.steps.tolist(), self.order.tolist()
        before = dict(zip(order[1:], order[:-1], strict=True))
        cache = self.transformer.cache(num, len(self.lookup), memory_of(told))
        codebooks = {place: slots for slots in self.slots for place in slots.places}
        drawn, hidden = self.embedding.nothing.expand(num, -1), torch.empty(0)

        def next_logits(slot: int, previous: Tensor) -> Tensor:
            nonlocal drawn, hidden
            if slot in before:
                drawn = drawn + self.embedding.at(before[slot], previous, mask)
            if steps[slot] == cache.length:
                hidden = self.transformer.step(drawn + added[:, steps[slot]], cache)
                drawn = torch.zeros_like(hidden)
            return self.embedding.logits(hidden, codebooks[slot])

        return next_logits

    def _added(self, told: Conditioned) -> Tensor:
        """What is added at each step. (B, S, W)"""
        places = self.places() + told.at_slots(self.specs)
        return places[:, self.lookup] + self.tail[self.late]


def delayed(specs: Sequence[LevelSpec]) -> tuple[Tensor, Tensor, Tensor]:
    """The steps of the delay pattern; the levels one after another.

    Returns:
        The step of each slot (L,), and of each step the slot whose place it has and how many steps
        it is after the last position (S,). All int64
    """
    steps, lookup, late = [], [], []
    slot, step = 0, 0
    for spec in specs:
        num = len(spec.codebook_sizes)
        positions = torch.arange(spec.num_tokens // num)
        steps.append((step + positions.unsqueeze(1) + torch.arange(num)).flatten())
        own = torch.arange(len(positions) + num - 1)
        lookup.append(slot + num * own.clamp(max=len(positions) - 1))
        late.append((own - (len(positions) - 1)).clamp(min=0))
        slot, step = slot + spec.num_tokens, step + len(own)
    return torch.cat(steps), torch.cat(lookup), torch.cat(late)
