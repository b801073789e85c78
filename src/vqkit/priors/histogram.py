"""The prior that knows how often each entry occurs in each place."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.distributed import all_reduce
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.counted import CountedPrior
from vqkit.priors.lengths import Lengths
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class HistogramConfig:
    """How often each entry occurs in each place, counted; the places independent."""

    type: Literal["histogram"] = "histogram"

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "HistogramPrior":
        """The prior over codes of these levels, with nothing counted."""
        return HistogramPrior(specs, conditioning, lengths)


class HistogramPrior(CountedPrior):
    """Independent integers, each with the frequencies of its own slot; labels make no difference.

    With add-one smoothing p = (n + 1) / (N + K): n of the N integers counted at the slot are this
    one of K. So what was never seen is improbable, not impossible, and the prior is uniform before
    anything is counted. It has no parameters: it is made by ``count``, not by an optimizer.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What may be told of the items, to check it.
        lengths: How long items are; None when all are as long.
    """

    completes_any = True

    occurrences: Tensor
    """How often each entry was counted at each slot, slot after slot. (sum of K) int64"""
    starts: Tensor
    """Where each slot begins in ``occurrences``. (L,) int64"""

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        ends = self.slot_sizes.cumsum(0)
        self.register_buffer("starts", ends - self.slot_sizes, persistent=False)
        self.register_buffer("occurrences", torch.zeros(int(ends[-1]), dtype=torch.int64))

    @property
    def config(self) -> HistogramConfig:
        return HistogramConfig()

    @property
    def num_counted(self) -> Tensor:
        """Number of integers that were counted at each slot. (L,) int64"""
        sums = F.pad(self.occurrences.cumsum(0), (1, 0))
        return sums[self.starts + self.slot_sizes] - sums[self.starts]

    def start_counting(self) -> None:
        self.occurrences.zero_()

    @torch.no_grad()
    def count(self, codes: Codes, given: Conditioning | None = None) -> None:
        """Adds the codes of all ranks to the counts.

        Args:
            codes: Of the levels of ``specs``. With several processes, every rank calls this
                equally often, with an empty batch where it has no more.

        Raises:
            ValueError: If the codes do not fit.
        """
        flat, mask = self.check_codes(codes), codes.flat_mask()
        real = torch.ones_like(flat) if mask is None else mask.long()
        found = torch.zeros_like(self.occurrences)
        found.index_add_(0, (flat + self.starts).flatten(), real.flatten())
        self.occurrences += all_reduce(found)

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        self.check_given(given, len(flat))
        seen = self.occurrences[flat + self.starts]
        nats = (self.num_counted + self.slot_sizes).double().log() - (seen + 1).double().log()
        return nats if mask is None else nats.masked_fill(~mask, 0)

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        rows = (self.occurrences + 1).double().log().split(self.slot_sizes.tolist())
        return lambda slot, previous: rows[slot].expand(num, -1)
