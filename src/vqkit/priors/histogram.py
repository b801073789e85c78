"""The prior that knows how often each entry occurs in each place."""

from collections.abc import Sequence
from typing import Literal

from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.lengths import Lengths
from vqkit.priors.slot_counts import SlotCountingPrior
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


class HistogramPrior(SlotCountingPrior):
    """Independent integers, each with the frequencies of its own slot; labels make no difference.

    With add-one smoothing p = (n + 1) / (N + K): n of the N integers counted at the slot are this
    one of K. So what was never seen is improbable, not impossible, and the prior is uniform before
    anything is counted. It has no parameters: it is made by ``count``, not by an optimizer.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What may be told of the items, to check it.
        lengths: How long items are; None when all are as long.
    """

    @property
    def config(self) -> HistogramConfig:
        return HistogramConfig()

    def count(self, codes: Codes, given: Conditioning | None = None) -> None:
        self.count_slots(self.check_codes(codes), codes.flat_mask())

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        self.check_given(given, len(flat))
        seen = self.occurrences[flat + self.starts]
        nats = (self.num_counted + self.slot_sizes).double().log() - (seen + 1).double().log()
        return nats if mask is None else nats.masked_fill(~mask, 0)

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        rows = (self.occurrences + 1).double().log().split(self.slot_sizes.tolist())
        return lambda slot, previous: rows[slot].expand(num, -1)
