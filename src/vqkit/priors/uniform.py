"""The prior that knows nothing: every code is equally likely."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.counted import CountedPrior
from vqkit.priors.lengths import Lengths
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UniformConfig:
    """Every code equally likely: the prior of the VQ-VAE paper's training."""

    type: Literal["uniform"] = "uniform"

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "UniformPrior":
        """The prior over codes of these levels."""
        return UniformPrior(specs, conditioning, lengths)


class UniformPrior(CountedPrior):
    """Every code is equally likely: log p is minus the sum of log K; labels make no difference."""

    completes_any = True

    @property
    def config(self) -> UniformConfig:
        return UniformConfig()

    def start_counting(self) -> None:
        """Does nothing: there is nothing to know."""

    def count(self, codes: Codes, given: Conditioning | None = None) -> None:
        """Does nothing but look at the codes."""
        self.check_codes(codes)

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        self.check_given(given, len(flat))
        nats = self.slot_sizes.double().log().expand(flat.shape)
        return nats if mask is None else nats.masked_fill(~mask, 0)

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        rows = [torch.zeros(size, dtype=torch.float64) for size in self.slot_sizes.tolist()]
        return lambda slot, previous: rows[slot].to(previous.device).expand(num, -1)
