"""A Transformer over positions, and a small one over the codebooks of each position."""

from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.codes import LevelSpec
from vqkit.nn.transformer import INIT_STD, Transformer
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.conditioner import Conditioned
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.lengths import Lengths
from vqkit.priors.sequence import SequencePrior, TransformerSize, memory_of
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DepthTransformerConfig(TransformerSize):
    """One Transformer over positions, another over the codebooks of each: for residual codes."""

    type: Literal["depth_transformer"] = "depth_transformer"
    depth_layers: Annotated[int, Field(ge=1)] = 2
    """Number of blocks of the Transformer over codebooks."""

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "DepthTransformerPrior":
        """The prior over codes of these levels, with new weights."""
        return DepthTransformerPrior(specs, conditioning, lengths, config=self)


class DepthTransformerPrior(SequencePrior):
    """p(codes | label): positions one after another, and at each its codebooks.

    RQ-Transformer, section 3.2 and equations 8 to 12, https://arxiv.org/abs/2203.01941. The
    sequence of the large Transformer is as long as there are positions, whatever the number of
    codebooks Q: a position's input is the sum of the vectors of the codes before it. At each
    position the small Transformer begins with what the large one made of it, and adds up the
    vectors of the codebooks so far.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.
        config: Widths and depth.
    """

    firsts: Tensor
    """The slot of the first codebook of each position. (P,) int64"""

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: DepthTransformerConfig | None = None,
    ) -> None:
        self._config = config = config or DepthTransformerConfig()
        super().__init__(specs, conditioning, lengths, config)
        # Without dropout, which wants one row for each item: here each position has one.
        self.depth = Transformer(config.width, num_layers=config.depth_layers, heads=config.heads)
        self.depths = nn.Parameter(torch.empty(len(self.slots), config.width))
        nn.init.normal_(self.depths, std=INIT_STD)
        self.register_buffer("firsts", first_slots(specs), persistent=False)

    @property
    def config(self) -> DepthTransformerConfig:
        return self._config

    def hidden(self, flat: Tensor, mask: Tensor | None, told: Conditioned) -> Tensor:
        vectors = self.embedding(flat, mask)
        levels = list(self._split(vectors))
        before = torch.cat([level.sum(2) for level in levels], dim=1)[:, :-1]
        begin = self.embedding.nothing.expand(len(flat), 1, -1)
        added = (self.places() + told.at_slots(self.specs))[:, self.firsts]
        x = torch.cat([begin, before], dim=1) + added
        positions = self.transformer(self.dropout(x), memory=memory_of(told))
        found, depths = [], self.depths
        for level, part in zip(levels, self._positions(positions), strict=True):
            own, depths = depths[: level.shape[2]], depths[level.shape[2] :]
            so_far = level.cumsum(2)[:, :, :-1]
            inputs = torch.cat([part.unsqueeze(2), so_far], dim=2) + own
            found.append(self.depth(inputs.flatten(0, 1)).reshape(level.flatten(1, 2).shape))
        return torch.cat(found, dim=1)

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        told = self.conditioner(given, num, mask)
        added = self.places() + told.at_slots(self.specs)
        cache = self.transformer.cache(num, len(self.firsts), memory_of(told))
        codebooks = {place: number for number, s in enumerate(self.slots) for place in s.places}
        firsts = set(self.firsts.tolist())
        within = self.depth.cache(num, max(len(spec.codebook_sizes) for spec in self.specs))
        so_far = self.embedding.nothing.expand(num, -1)

        def next_logits(slot: int, previous: Tensor) -> Tensor:
            nonlocal so_far
            if slot:
                so_far = so_far + self.embedding.at(slot - 1, previous, mask)
            inputs = so_far
            if slot in firsts:  # what the codes of the last position add up to is read
                inputs = self.transformer.step(so_far + added[:, slot], cache)
                so_far, within.length = torch.zeros_like(inputs), 0
            number = codebooks[slot]
            hidden = self.depth.step(inputs + self.depths[number], within)
            return self.embedding.logits(hidden, self.slots[number])

        return next_logits

    def _split(self, vectors: Tensor) -> list[Tensor]:
        """Vectors of slots (B, L, W), level by level. Each (B, positions, Q, W)"""
        parts = vectors.split([spec.num_tokens for spec in self.specs], dim=1)
        sizes = [len(spec.codebook_sizes) for spec in self.specs]
        return [part.unflatten(1, (-1, q)) for part, q in zip(parts, sizes, strict=True)]

    def _positions(self, vectors: Tensor) -> Sequence[Tensor]:
        """Vectors of positions (B, P, W), level by level."""
        counts = [spec.num_tokens // len(spec.codebook_sizes) for spec in self.specs]
        return vectors.split(counts, dim=1)


def first_slots(specs: Sequence[LevelSpec]) -> Tensor:
    """The slot of the first codebook of each position of all levels. (P,) int64"""
    found, start = [], 0
    for spec in specs:
        found.append(torch.arange(start, start + spec.num_tokens, len(spec.codebook_sizes)))
        start += spec.num_tokens
    return torch.cat(found)
