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
    """How often each entry occurs after the integers nearest before it, and with the label."""

    type: Literal["ngram"] = "ngram"
    order: Annotated[int, Field(ge=0)] = 2
    """Most integers before it that an integer is predicted from."""
    per_place: bool = True
    """Whether each place of the grid has counts of its own: better with many items, and worse with
    few that are long."""

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "NGramPrior":
        """The prior over codes of these levels, with nothing counted."""
        return NGramPrior(specs, conditioning, lengths, order=self.order, per_place=self.per_place)


class NGramPrior(CountedPrior):
    """Each integer given those nearest before it and the label of the item, counted.

    The context of an integer is first the code of the level before that lies over its position,
    then the codebooks before it at its own position, then the same codebook at the nearest
    positions before it in raster order: on a line the last ones, on a plane left, above, above
    left, above right, and so on; the first ``order`` of these. What is masked or outside of the
    grid is a symbol of its own. The label stands among them where it makes the integers most
    probable. Where a context was seldom seen, its frequencies are mixed with those of the context
    without its last symbol, and so on, down to those of the codebook: see ``BackoffCounts``.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What is told of the items; all but labels makes no difference.
        lengths: How long items are; None when all are as long.
        order: Most integers of a context.
        per_place: Whether the place comes before all of them in the context; else all positions of
            a codebook are counted together.

    Raises:
        ValueError: If there are more contexts than int64 can number.
    """

    counts_labels = True

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        order: int = 2,
        per_place: bool = True,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self.num_before, self.per_place = order, per_place
        self.contexts = contexts_of(specs, order)
        self.books = nn.ModuleList(self._empty(contexts) for contexts in self.contexts)

    @property
    def config(self) -> NGramConfig:
        return NGramConfig(order=self.num_before, per_place=self.per_place)

    @property
    def needs_conditioning(self) -> bool:
        return self.num_classes is not None

    def _empty(self, contexts: Contexts) -> BackoffCounts:
        """No counts of a codebook."""
        size, symbols = contexts.slots.size, [each + 1 for each in contexts.sizes]
        places = [len(contexts.before)] if self.per_place else []
        classes = [] if self.num_classes is None else [self.num_classes]
        fits = largest_that_fits(size, places + classes + symbols)
        if fits < len(places + classes + symbols):
            raise ValueError(
                f"order is {self.num_before}, but contexts of {len(symbols)} codes of {size} "
                f"entries are more than 2**63; give an order of at most "
                f"{fits - len(places + classes)}"
            )
        return BackoffCounts(size, places + symbols + classes, last_moves=bool(classes))

    def start_counting(self) -> None:
        for _, book in self._books():
            book.start()

    @torch.no_grad()
    def count(self, codes: Codes, given: Conditioning | None = None) -> None:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        labels = self.check_given(given, len(flat)).labels
        for contexts, book in self._books():
            integers = flat[:, contexts.slots.where]
            told = self._told(contexts, labels, flat, mask)
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
        labels = self.check_given(given, len(flat)).labels
        nats = torch.zeros(flat.shape, dtype=torch.float64, device=flat.device)
        for contexts, book in self._books():
            integers = flat[:, contexts.slots.where]
            told = self._told(contexts, labels, flat, mask).flatten(0, 1)
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
            row = slice(place, place + 1)
            return book.logits(self._told(contexts, given.labels, flat, mask, row)[:, 0])

        return logits

    def _told(
        self,
        contexts: Contexts,
        labels: Tensor | None,
        flat: Tensor,
        mask: Tensor | None,
        rows: slice = slice(None),
    ) -> Tensor:
        """The contexts of the slots of a codebook.

        Args:
            contexts: Where they stand.
            labels: Of the items; None when it is told none. (B,)
            flat: Integers, 0 where masked. (B, L) int64
            mask: Which are real; None when all are. (B, L) bool
            rows: Which positions P.

        Returns:
            The place, entries or the size of the codebook for nothing, the label. (B, P, J) int64
        """
        before = contexts.before[rows].to(flat.device)
        real = before >= 0 if mask is None else (before >= 0) & mask[:, before]
        told = torch.where(real, flat[:, before], flat.new_tensor(contexts.sizes))
        parts = [told]
        if self.per_place:
            places = torch.arange(len(contexts.before), device=flat.device)[rows]
            parts.insert(0, places.view(1, -1, 1).expand(len(flat), -1, 1))
        if labels is not None:
            parts.append(labels.to(flat).view(-1, 1, 1).expand(-1, told.shape[1], 1))
        return torch.cat(parts, dim=2)

    def _books(self) -> list[tuple[Contexts, BackoffCounts]]:
        """The contexts and the counts of each codebook."""
        found = []
        for contexts, book in zip(self.contexts, self.books, strict=True):
            assert isinstance(book, BackoffCounts)
            found.append((contexts, book))
        return found
