"""The prior that sees items as draws of a few Gaussians over the vectors of their entries."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.distributed import broadcast_object
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.chosen import Chosen
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.entries import Entries
from vqkit.priors.gaussians import Gaussians, fit_gaussians, import_mixture, snapped_counts
from vqkit.priors.known import Known
from vqkit.priors.lengths import Lengths
from vqkit.priors.slot_counts import SlotCountingPrior
from vqkit.random import hash_int, hash_tensor
from vqkit.schema import STRICT

MOST_NUMBERS = 2**28
"""Of a table of components times slots times entries, or of items times coordinates: 1 GiB."""
SHARES = (0.01, 0.03, *(tenth / 10 for tenth in range(1, 11)))
"""Of the frequencies of a slot, to choose from."""
EVERY, ENOUGH = 10, 2000
"""One of how many items is for the choice of a share, and how many of these are enough."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MixtureConfig:
    """A Gaussian mixture over the vectors of the entries, whose draws are snapped to entries."""

    type: Literal["mixture"] = "mixture"
    components: Annotated[int, Field(ge=1)] = 64
    """Number of Gaussians: kinds of items."""
    draws: Annotated[int, Field(ge=1)] = 2048
    """How often each Gaussian is drawn from to see how often it gives each entry in each place."""
    max_items: Annotated[int, Field(ge=1)] = 10_000
    """Most items that the Gaussians are fitted to; of more, so many are taken at random."""
    seed: int = 0
    """Of the items taken, of the start of the Gaussians and of their draws."""

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "MixturePrior":
        """The prior over codes of these levels; give it the entries by ``embed``."""
        return MixturePrior(specs, conditioning, lengths, config=self)


class MixturePrior(SlotCountingPrior):
    """Items of some kinds; of each kind the integers are independent. Labels make no difference.

    The vectors of an item's entries, slot after slot, are taken for a draw of a mixture of
    Gaussians with independent coordinates, fitted by scikit-learn. A draw of one of them, c, is
    snapped to the nearest entries, and so gives entry k at slot l with a probability that is
    counted over many draws: p_cl(k) = (1 - a) n / M + a p_l(k), where n of M draws gave k, and p_l
    are the add-one smoothed frequencies of the slot. The share a is that under which a tenth of the
    items is most probable, which the Gaussians are not fitted to. The prior is the mixture of
    these, so that its probabilities are exact: p(codes) = sum over c of w_c times the product over
    l of p_cl(k_l).

    It needs the vectors of the entries, see ``embed``, until it is counted. A masked integer counts
    as the mean of its slot.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What may be told of the items, to check it.
        lengths: How long items are; None when all are as long.
        config: Of the mixture.

    Raises:
        ValueError: If the table of probabilities is too large.
    """

    drawn: Tensor
    """How often each component's draws were each entry, slot after slot. (C, sum of K) int64"""
    log_weights: Tensor
    """How probable each component is. (C,) float64"""
    share: Tensor
    """Share a of the frequencies of the slots in all probabilities. () float64"""

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: MixtureConfig,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self._config, total = config, len(self.occurrences)
        if config.components * total > MOST_NUMBERS:
            raise ValueError(
                f"components is {config.components}, whose tables would have "
                f"{config.components * total} numbers; give at most {MOST_NUMBERS // total}"
                if total <= MOST_NUMBERS
                else f"all slots together have {total} entries, too many for a mixture's tables; "
                "take an ngram or a transformer prior"
            )
        drawn = torch.zeros(config.components, total, dtype=torch.int32)
        self.register_buffer("drawn", drawn)
        even = torch.full((config.components,), 1 / config.components, dtype=torch.float64)
        self.register_buffer("log_weights", even.log())
        self.register_buffer("share", torch.ones((), dtype=torch.float64))
        self.entries = Entries(specs)
        self._items = self._nothing_chosen()

    @property
    def config(self) -> MixtureConfig:
        return self._config

    def embed(self, tables: Sequence[Tensor]) -> None:
        """Takes the vectors of the entries, to be called before counting.

        Args:
            tables: For each codebook of each level, coarsest first, its entries: what
                ``vqkit.quantizers.entry_vectors`` gives for the quantizers. Each (K, D)

        Raises:
            ValueError: If they do not fit the codebooks.
        """
        self.entries.take(tables)
        length, most = self.entries.num_coordinates, self._config.max_items
        if length * most > MOST_NUMBERS:
            raise ValueError(
                f"max_items is {most}, of {length} coordinates each; give at most "
                f"{MOST_NUMBERS // length}"
            )

    def resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.entries.resize(shapes, "entries.")

    def start_counting(self) -> None:
        import_mixture()
        if self.entries.is_empty:
            raise ValueError(
                "the mixture has no vectors of the entries; call prior.embed with those of the "
                "tokenizer that made the codes (entry_vectors of its quantizers)"
            )
        super().start_counting()
        self.drawn.zero_()
        self.share.fill_(1)
        self.log_weights.fill_(-math.log(self._config.components))
        self._items = self._nothing_chosen()

    @torch.no_grad()
    def count(self, codes: Codes, given: Conditioning | None = None) -> None:
        self._items.add(self.count_slots(self.check_codes(codes), codes.flat_mask()))

    @torch.no_grad()
    def end_counting(self) -> None:
        items = self._items.rows()
        self._items = self._nothing_chosen()
        if items is None or len(items) < 2:  # one to fit to, and one to choose by
            return
        config = self._config
        # What the Gaussians have seen is too probable under them to choose a share by.
        order = hash_tensor(
            self._config.seed, torch.arange(len(items), device=items.device)
        ).argsort()
        some = max(1, len(items) // EVERY)
        vectors = self.entries.vectors(items[order[some:]])
        gaussians = fit_gaussians(vectors, config.components, config.seed)
        weights = torch.zeros(config.components, dtype=torch.float64)
        weights[: len(gaussians.weights)] = gaussians.weights
        # Fits differ in the last bits between machines: all ranks take those of the first.
        weights, drawn = broadcast_object((weights, self._snapped(gaussians).cpu()))
        self.log_weights.copy_(weights.log())
        self.drawn.copy_(drawn)
        self._choose_share(items[order[: min(some, ENOUGH)]])

    def _nothing_chosen(self) -> Chosen:
        return Chosen(self._config.max_items, self._config.seed)

    def _snapped(self, gaussians: Gaussians) -> Tensor:
        """How often draws of each Gaussian are each entry of each slot. (C, sum of K) int32"""
        drawn, first = torch.zeros_like(self.drawn), 0
        num = len(gaussians.weights)
        for number, (table, slots) in enumerate(self.entries):
            end = first + len(slots.places) * table.shape[1]
            means, deviations = (
                each[:, first:end].reshape(-1, table.shape[1])
                for each in (gaussians.means, gaussians.deviations)
            )
            seed = hash_int(self._config.seed, number)
            counts = snapped_counts(means, deviations, table, self._config.draws, seed)
            for slot, own in zip(
                slots.places, counts.view(num, -1, slots.size).unbind(1), strict=True
            ):
                start = int(self.starts[slot])
                drawn[:num, start : start + slots.size] = own
            first = end
        return drawn

    def _choose_share(self, items: Tensor) -> None:
        """Takes the share under which items, -1 where masked, are most probable by all others."""
        flat, mask, costs = items.clamp(min=0), items >= 0, []
        self.add(items, -1)
        for share in SHARES:
            self.share.fill_(share)
            costs.append(float(self._nats(flat, mask).sum()))
        self.add(items, 1)
        self.share.fill_(SHARES[costs.index(min(costs))])

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat = self.check_codes(codes)
        self.check_given(given, len(flat))
        return self._nats(flat, codes.flat_mask())

    def _nats(self, flat: Tensor, mask: Tensor | None) -> Tensor:
        """What integers cost that were checked, 0 where masked. (B, L) float64"""
        at, backing = flat + self.starts, self._backing()[flat + self.starts]
        sums = torch.full_like(backing, -math.inf)  # over components, of all up to each slot
        # One component after another: all at once would take so many times the memory.
        for drawn, scale, log_weight in zip(
            self.drawn, self._scales(), self._log_weights(), strict=True
        ):
            log_p = (drawn[at] * scale + backing).log()
            if mask is not None:
                log_p = log_p.masked_fill(~mask, 0)
            sums = torch.logaddexp(sums, log_weight + log_p.cumsum(1))
        nats = F.pad(sums, (1, 0))[:, :-1] - sums
        return nats if mask is None else nats.masked_fill(~mask, 0)

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        known = Known.nothing(num, len(self.slot_sizes), self.starts.device)
        return self.completing(known, given, mask)

    def completing(self, known: Known, given: Conditioning, mask: Tensor | None) -> NextLogits:
        """As ``next_logits``; what is known later says of which kind an item is, too."""
        sizes = self.slot_sizes.tolist()
        backing, drawn = self._backing().split(sizes), self.drawn.split(sizes, dim=1)
        scales = self._scales().unsqueeze(1)
        # The log-probability of each component and of all that is known of an item. (B, C)
        state = self._log_weights().repeat(len(known.flat), 1)

        def see(slot: int, integers: Tensor, seen: Tensor) -> None:
            if mask is not None:
                seen = seen & mask[:, slot]
            if seen.any():
                log_p = (drawn[slot][:, integers] * scales + backing[slot][integers]).log()
                state.add_(log_p.T.masked_fill(~seen.unsqueeze(1), 0))

        for slot in range(len(sizes)):
            see(slot, known.flat[:, slot], known.mask[:, slot])

        def logits(slot: int, previous: Tensor) -> Tensor:
            if slot > 0:
                see(slot - 1, previous, ~known.mask[:, slot - 1])
            return (state.softmax(1) @ (drawn[slot] * scales + backing[slot])).log()

        return logits

    def _backing(self) -> Tensor:
        """a p_l(k), slot after slot. (sum of K,) float64"""
        totals = (self.num_counted + self.slot_sizes).double().repeat_interleave(self.slot_sizes)
        return self.share.double() * (self.occurrences + 1).double() / totals

    def _scales(self) -> Tensor:
        """What a draw of each component adds to a probability, (1 - a) / M. (C,) float64"""
        num = self.drawn[:, : int(self.slot_sizes[0])].sum(1).clamp(min=1)
        return (1 - self.share.double()) / num

    def _log_weights(self) -> Tensor:
        """Those of probabilities that sum to one, whatever type the prior was cast to. (C,)"""
        return self.log_weights.double().log_softmax(0)
