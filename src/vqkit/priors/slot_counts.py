"""How often each entry occurs at each slot: what the simplest priors count."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vqkit.codes import LevelSpec
from vqkit.distributed import gather_rows
from vqkit.priors.conditioning import ConditioningSpec
from vqkit.priors.counted import CountedPrior
from vqkit.priors.lengths import Lengths


class SlotCountingPrior(CountedPrior):
    """A prior that counts the entries at each slot.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What may be told of the items, to check it.
        lengths: How long items are; None when all are as long.
    """

    completes_any = True

    occurrences: Tensor
    """How often each entry was counted at each slot, slot after slot. (sum of K) int64"""
    num_counted: Tensor
    """Number of integers that were counted at each slot. (L,) int64"""
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
        self.register_buffer("num_counted", torch.zeros_like(self.starts), persistent=False)
        self.register_load_state_dict_post_hook(lambda module, _: module.sum_up())

    def start_counting(self) -> None:
        self.occurrences.zero_()
        self.num_counted.zero_()

    def sum_up(self) -> None:
        """Makes what is not saved."""
        slots = self.occurrences.split(self.slot_sizes.tolist())
        self.num_counted.copy_(torch.stack([each.sum() for each in slots]))

    @torch.no_grad()
    def count_slots(self, flat: Tensor, mask: Tensor | None) -> Tensor:
        """Adds the integers of all ranks to the counts.

        Args:
            flat: Checked integers. (B, L) int64
            mask: Which are real; None when all are. (B, L) bool

        Returns:
            Those of this rank, -1 where masked. (B, L) int64
        """
        own = flat if mask is None else torch.where(mask, flat, -1)
        self.add(gather_rows(own), 1)
        return own

    def add(self, rows: Tensor, times: int) -> None:
        """Adds integers (B, L), -1 where masked, so many times each to the counts of this rank."""
        real = rows >= 0
        self.occurrences.index_add_(0, (rows + self.starts)[real], real[real] * times)
        self.num_counted += real.sum(0) * times
