"""The prior that knows how often each entry occurs after the integers nearest before it."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.codes import Codes, LevelSpec
from vqkit.priors.autoregressive import NextLogits
from vqkit.priors.backoff import BackoffCounts, largest_that_fits
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.contexts import Contexts, contexts_of
from vqkit.priors.counted import CountedPrior
from vqkit.priors.lengths import Lengths
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NGramConfig:
    """How often each entry occurs after the integers nearest before it, counted."""

    type: Literal["ngram"] = "ngram"
    order: Annotated[int, Field(ge=0)] = 2
    """Most integers before that an integer is predicted from."""

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "NGramPrior":
        """The prior over codes of these levels, with nothing counted."""
        return NGramPrior(specs, conditioning, lengths, order=self.order)


class NGramPrior(CountedPrior):
    """Each integer given those nearest before it, counted; labels make no difference.

    The context of an integer is first the code of the level before that lies over its position, then
    the codebooks before it at its own position, then the same codebook at the nearest positions
    before it in raster order: on a line the last ones, on a plane left, above, above left, above
    right, and so on; the first ``order`` of these. What is masked or outside of the grid is a symbol
    of its own. All positions of a codebook are counted together. Where a context was seldom seen,
    its frequencies are mixed with those of the context without its last integer, down to none: see
    ``BackoffCounts``.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What may be told of the items, to check it.
        lengths: How long items are; None when all are as long.
        order: Most integers of a context.

    Raises:
        ValueError: If there are more contexts than int64 can number.
    """

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        order: int = 2,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self.context_order = order
        self.contexts = contexts_of(specs, order)
        for contexts in self.contexts:
            check_fits(contexts)
        self.books = nn.ModuleList(
            BackoffCounts(contexts.slots.size, symbols_of(contexts)) for contexts in self.contexts
        )

    @property
    def config(self) -> NGramConfig:
        return NGramConfig(order=self.context_order)

    def start_counting(self) -> None:
        for _, book in self._books():
            book.start()

    @torch.no_grad()
    def count(self, codes: Codes) -> None:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        for contexts, book in self._books():
            integers = flat[:, contexts.slots.where]
            told = symbols(contexts, flat, mask)
            if mask is None:
                book.add(told.flatten(0, 1), integers.flatten())
            else:
                real = mask[:, contexts.slots.where]
                book.add(told[real], integers[real])

    @torch.no_grad()
    def end_counting(self) -> None:
        for _, book in self._books():
            book.end()

    def resize(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, module in self.named_modules():
            if isinstance(module, BackoffCounts):
                keys = f"{name}.tables.{len(module.symbols)}.keys"
                module.resize(shapes.get(keys, (0,))[0])

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        self.check_given(given, len(flat))
        nats = torch.zeros(flat.shape, dtype=torch.float64, device=flat.device)
        for contexts, book in self._books():
            integers = flat[:, contexts.slots.where]
            told = symbols(contexts, flat, mask).flatten(0, 1)
            found = book.nats(told, integers.flatten())
            nats[:, contexts.slots.where] = found.view_as(integers)
        return nats if mask is None else nats.masked_fill(~mask, 0)

    def next_logits(self, num: int, given: Conditioning, mask: Tensor | None) -> NextLogits:
        flat = self.slot_sizes.new_zeros(num, len(self.slot_sizes))
        places = {
            slot: (place, contexts, book)
            for contexts, book in self._books()
            for place, slot in enumerate(contexts.slots.places)
        }

        def logits(slot: int, previous: Tensor) -> Tensor:
            if slot > 0:
                flat[:, slot - 1] = previous
            place, contexts, book = places[slot]
            return book.logits(symbols(contexts, flat, mask, place)[:, 0])

        return logits

    def _books(self) -> list[tuple[Contexts, BackoffCounts]]:
        """The contexts and the counts of each codebook."""
        found = []
        for contexts, book in zip(self.contexts, self.books, strict=True):
            assert isinstance(book, BackoffCounts)
            found.append((contexts, book))
        return found


def symbols_of(contexts: Contexts) -> tuple[int, ...]:
    """How many symbols can stand at each place of a context: the entries, and nothing."""
    return tuple(size + 1 for size in contexts.sizes)


def symbols(
    contexts: Contexts, flat: Tensor, mask: Tensor | None, place: int | None = None
) -> Tensor:
    """What stands before the slots of a codebook.

    Args:
        contexts: Of the codebook.
        flat: Integers, 0 where masked. (B, L) int64
        mask: Which are real; None when all are. (B, L) bool
        place: Number of the position; None for all.

    Returns:
        Entries, or the size of the codebook for nothing. (B, positions, J) int64
    """
    before = (contexts.before if place is None else contexts.before[place : place + 1]).to(
        flat.device
    )
    sizes = torch.tensor(contexts.sizes, dtype=torch.int64, device=flat.device)
    real = before >= 0
    if mask is not None:
        real = real & mask[:, before]
    return torch.where(real, flat[:, before], sizes)


def check_fits(contexts: Contexts) -> None:
    """Raises ValueError if there are more contexts than int64 can number."""
    fits = largest_that_fits(contexts.slots.size, symbols_of(contexts))
    if fits < len(contexts.sizes):
        raise ValueError(
            f"order is {len(contexts.sizes)}, but contexts of so many codes of {contexts.slots.size} "
            f"entries have no number below 2**63; give an order of at most {fits}"
        )
