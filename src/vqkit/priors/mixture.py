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
from vqkit.distributed import all_reduce, broadcast_object
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.chosen import Chosen
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.counted import CountedPrior
from vqkit.priors.gaussians import Gaussians, fit_gaussians, import_mixture, snapped_counts
from vqkit.priors.known import Known
from vqkit.priors.lengths import Lengths
from vqkit.random import hash_int
from vqkit.schema import STRICT

MOST_NUMBERS = 2**28
"""Of a table of components times slots times entries, or of items times coordinates: 1 GiB."""
SMOOTHING = 16.0
"""How many draws the frequencies of a slot count as."""


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


class MixturePrior(CountedPrior):
    """Items of some kinds; of each kind the integers are independent. Labels make no difference.

    The vectors of an item's entries, slot after slot, are taken for a draw of a mixture of
    Gaussians with independent coordinates, fitted by scikit-learn. A draw of one of them, c, is
    snapped to the nearest entries, and so gives entry k at slot l with a probability that is
    counted over many draws: p_cl(k) = (n + S p_l(k)) / (M + S), where n of M draws gave k, and p_l
    are the smoothed frequencies of the slot. The prior is the mixture of these, so that its
    probabilities are exact: p(codes) = sum over c of w_c times the product over l of p_cl(k_l).

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

    completes_any = True

    occurrences: Tensor
    """How often each entry was counted at each slot, slot after slot. (sum of K) int64"""
    drawn: Tensor
    """How often each component's draws were each entry, slot after slot. (C, sum of K) int64"""
    log_weights: Tensor
    """How probable each component is. (C,) float64"""
    starts: Tensor
    """Where each slot begins in ``occurrences``. (L,) int64"""

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: MixtureConfig,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self._config = config
        ends = self.slot_sizes.cumsum(0)
        total = int(ends[-1])
        if config.components * total > MOST_NUMBERS:
            raise ValueError(
                f"components is {config.components}, whose tables would have "
                f"{config.components * total} numbers; give at most {MOST_NUMBERS // total}"
                if total <= MOST_NUMBERS
                else f"all slots together have {total} entries, too many for a mixture's tables; "
                "take an ngram or a transformer prior"
            )
        self.register_buffer("starts", ends - self.slot_sizes, persistent=False)
        self.register_buffer("occurrences", torch.zeros(total, dtype=torch.int64))
        drawn = torch.zeros(config.components, total, dtype=torch.int32)
        self.register_buffer("drawn", drawn)
        even = torch.full((config.components,), 1 / config.components, dtype=torch.float64)
        self.register_buffer("log_weights", even.log())
        for number, slots in enumerate(self.slots):
            self.register_buffer(f"entries{number}", torch.zeros(slots.size, 0))
        self._items = self._nothing_chosen()

    @property
    def config(self) -> MixtureConfig:
        return self._config

    @property
    def entries(self) -> tuple[Tensor, ...]:
        """The vectors of each codebook's entries, of length 0 before ``embed``. Each (K, D)"""
        return tuple(getattr(self, f"entries{number}") for number in range(len(self.slots)))

    def embed(self, tables: Sequence[Tensor]) -> None:
        """Takes the vectors of the entries, to be called before counting.

        Args:
            tables: For each codebook of each level, coarsest first, its entries: what
                ``vqkit.quantizers.entry_vectors`` gives for the quantizers. Each (K, D)

        Raises:
            ValueError: If they do not fit the codebooks.
        """
        if len(tables) != len(self.slots):
            raise ValueError(
                f"there are {len(tables)} tables; give one for each of {len(self.slots)} codebooks"
            )
        for number, (table, slots) in enumerate(zip(tables, self.slots, strict=True)):
            if table.dim() != 2 or len(table) != slots.size or table.shape[1] < 1:
                raise ValueError(
                    f"table {number} has shape {tuple(table.shape)}; give ({slots.size}, D)"
                )
            if not table.isfinite().all():
                raise ValueError(f"table {number} has numbers that are not finite")
            setattr(self, f"entries{number}", table.detach().to(self.starts.device).float().clone())
        length = sum(t.shape[1] * len(s.places) for t, s in zip(tables, self.slots, strict=True))
        if length * self._config.max_items > MOST_NUMBERS:
            raise ValueError(
                f"max_items is {self._config.max_items}, of {length} coordinates each; give at "
                f"most {MOST_NUMBERS // length}"
            )

    def resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for number, slots in enumerate(self.slots):
            shape = shapes.get(f"entries{number}", (slots.size, 0))
            setattr(self, f"entries{number}", torch.zeros(shape, device=self.starts.device))

    def start_counting(self) -> None:
        import_mixture()
        if any(table.shape[1] == 0 for table in self.entries):
            raise ValueError(
                "the mixture has no vectors of the entries; call prior.embed with those of the "
                "tokenizer that made the codes (entry_vectors of its quantizers)"
            )
        self.occurrences.zero_()
        self.drawn.zero_()
        self.log_weights.fill_(-math.log(self._config.components))
        self._items = self._nothing_chosen()

    @torch.no_grad()
    def count(self, codes: Codes) -> None:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        real = torch.ones_like(flat) if mask is None else mask.long()
        found = torch.zeros_like(self.occurrences)
        found.index_add_(0, (flat + self.starts).flatten(), real.flatten())
        self.occurrences += all_reduce(found)
        self._items.add(torch.where(real > 0, flat, -1))

    @torch.no_grad()
    def end_counting(self) -> None:
        items = self._items.rows()
        self._items = self._nothing_chosen()
        if len(items) == 0:
            return
        config = self._config
        gaussians = fit_gaussians(self._vectors(items), config.components, config.seed)
        weights = torch.zeros(config.components, dtype=torch.float64)
        weights[: len(gaussians.weights)] = gaussians.weights
        # Fits differ in the last bits between machines: all ranks take those of the first.
        weights, drawn = broadcast_object((weights, self._snapped(gaussians).cpu()))
        self.log_weights.copy_(weights.log())
        self.drawn.copy_(drawn)

    def _vectors(self, items: Tensor) -> Tensor:
        """The vectors of items, codebook after codebook, slot after slot; -1 is masked. (N, F)"""
        found = []
        for table, slots in zip(self.entries, self.slots, strict=True):
            own = items[:, slots.where]
            real = (own >= 0).unsqueeze(-1)
            vectors = table[own.clamp(min=0)]
            mean = (vectors * real).sum(0) / real.sum(0).clamp(min=1)
            found.append(torch.where(real, vectors, mean).flatten(1))
        return torch.cat(found, dim=1)

    def _nothing_chosen(self) -> Chosen:
        return Chosen(self._config.max_items, self._config.seed)

    def _snapped(self, gaussians: Gaussians) -> Tensor:
        """How often draws of each Gaussian are each entry of each slot. (C, sum of K) int32"""
        drawn, first = torch.zeros_like(self.drawn), 0
        num = len(gaussians.weights)
        for number, (table, slots) in enumerate(zip(self.entries, self.slots, strict=True)):
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

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        self.check_given(given, len(flat))
        at, frequencies = flat + self.starts, self._frequencies()[flat + self.starts]
        sums = torch.full_like(frequencies, -math.inf)  # over components, of all up to each slot
        for drawn, num, log_weight in zip(
            self.drawn, self._num_drawn(), self._log_weights(), strict=True
        ):
            log_p = smoothed(drawn[at], num, frequencies).log()
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
        frequencies = self._frequencies().split(sizes)
        drawn, num = self.drawn.split(sizes, dim=1), self._num_drawn().unsqueeze(1)
        # The log-probability of each component and of all that is known of an item. (B, C)
        state = self._log_weights().repeat(len(known.flat), 1)

        def see(slot: int, integers: Tensor, seen: Tensor) -> None:
            if mask is not None:
                seen = seen & mask[:, slot]
            if seen.any():
                log_p = smoothed(drawn[slot][:, integers], num, frequencies[slot][integers]).log()
                state.add_(log_p.T.masked_fill(~seen.unsqueeze(1), 0))

        for slot in range(len(sizes)):
            see(slot, known.flat[:, slot], known.mask[:, slot])

        def logits(slot: int, previous: Tensor) -> Tensor:
            if slot > 0:
                see(slot - 1, previous, ~known.mask[:, slot - 1])
            return (state.softmax(1) @ smoothed(drawn[slot], num, frequencies[slot])).log()

        return logits

    def _frequencies(self) -> Tensor:
        """The add-one smoothed frequencies of entries, slot after slot. (sum of K,) float64"""
        counts = (self.occurrences + 1).double()
        totals = torch.stack([each.sum() for each in counts.split(self.slot_sizes.tolist())])
        return counts / totals.repeat_interleave(self.slot_sizes)

    def _log_weights(self) -> Tensor:
        """Those of probabilities that sum to one, whatever type the prior was cast to. (C,)"""
        return self.log_weights.double().log_softmax(0)

    def _num_drawn(self) -> Tensor:
        """How many draws of each component were counted. (C,) int64"""
        return self.drawn[:, : int(self.slot_sizes[0])].sum(1)


def smoothed(drawn: Tensor, num: Tensor, frequencies: Tensor) -> Tensor:
    """The probability of what was drawn so often of ``num`` times, backed by frequencies."""
    return (drawn + SMOOTHING * frequencies) / (num + SMOOTHING)
