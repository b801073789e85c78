"""Evaluates a model on a whole split."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes, LevelSpec
from vqkit.data import Batch, Examples, collate, in_order, lengths_of
from vqkit.distributed import rank, world_size
from vqkit.evaluation.codebook import CodebookStats, CodeCounter
from vqkit.evaluation.gallery import Atlas, Shown, draw_atlas, show_items
from vqkit.evaluation.items import Items, itemized
from vqkit.evaluation.levels import LevelPictures, LevelTotals, show_levels
from vqkit.evaluation.likelihood import Likelihood, log_probs, num_dims
from vqkit.evaluation.reliance import (
    Reliance,
    in_pairs,
    log_prob_given,
    own_log_prob,
    partners_in,
)
from vqkit.evaluation.stages import StageTotals, has_stages
from vqkit.modalities.base import Modality
from vqkit.nn import AutoregressiveDecoder
from vqkit.nn.evaluating import device_of, evaluating
from vqkit.priors import Conditioning, Prior
from vqkit.tokens.progress import advancing
from vqkit.tokens.sizes import alike

NUM_EXTREMES = 8
"""Most items that are shown as the most likely, and as the least."""


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """What was found over a whole split.

    Attributes:
        modality: What kind of data it was.
        metrics: All figures by name, as JSON values; docs/evaluation.md says what each means.
        stats: Use of each codebook of each level, coarsest level first.
        specs: Shapes of the levels of one item.
        shown: Some items with reconstructions and codes; None if there is nothing to show.
        atlases: Entries decoded alone, one for each codebook.
        items: What each item costs.
        levels: Some items decoded from their coarsest levels alone; None for one level.
    """

    modality: Modality
    metrics: dict[str, Any]
    stats: tuple[tuple[CodebookStats, ...], ...]
    specs: tuple[LevelSpec, ...]
    shown: Shown | None
    atlases: tuple[Atlas, ...]
    items: Items
    levels: LevelPictures | None = None


@torch.no_grad()
def evaluate(
    model: VQVAE,
    examples: Examples,
    *,
    split: str = "evaluation split",
    prior: Prior | None = None,
    batch_size: int = 64,
    device: torch.device | str | None = None,
    num_workers: int = 0,
    num_shown: int = 18,
    num_entries: int = 256,
    progress: bool = False,
) -> Evaluation:
    """Measures a tokenizer on every item of a split; ranks share the items.

    The figures are totals over counts: they depend neither on the batch size nor on the ranks.

    Args:
        model: The tokenizer.
        examples: The split, without augmentation.
        split: What it is called; kept with the figures.
        prior: What the codes are measured by besides the uniform prior.
        batch_size: Items at once.
        device: Where to compute; model and prior are moved there. None: where the model is.
        num_workers: Processes that read ahead; 0 reads in this one.
        num_shown: Most items that are kept to be shown.
        num_entries: Most entries of each codebook that are kept to be shown.
        progress: Whether to show a bar.

    Raises:
        ValueError: If there are no examples, the model gives numbers that are not finite, or the
            prior is for other codes or for labels that the examples do not have.
    """
    if not len(examples):
        raise ValueError("the split has 0 items; there is nothing to evaluate")
    place = device_of(model) if device is None else torch.device(device)
    model.to(place)
    if prior is not None:
        prior.to(place)
    totals = Totals(model, prior, place, examples)
    first, last = (len(examples) * r // world_size() for r in (rank(), rank() + 1))
    items, by_length = alike(examples, range(first, last)), lengths_of(examples) is not None
    batches = in_order(examples, batch_size, indices=items, num_workers=num_workers)
    others: Iterable[Batch | None] = repeat(None)
    if model.objective.claims_likelihood and len(examples) > 1:
        shifted = partners_in(examples, items)
        others = in_order(examples, batch_size, indices=shifted, num_workers=num_workers)
    with evaluating(model), advancing("evaluating", last - first, show=progress) as advance:
        for batch, other in zip(batches, others, strict=False):
            for part, partner in in_pairs(batch, other, by_length=by_length):
                totals.add(part.to(place), None if partner is None else partner.to(place))
            advance(len(batch))
        found = totals.evaluation(num_shown, num_entries)
    return replace(found, metrics={"split": split, **found.metrics})


class Totals:
    """Everything that is added up over a split.

    Args:
        model: The tokenizer, in evaluation mode when batches are added.
        prior: What the codes are measured by besides the uniform prior.
        device: Where both are.
        examples: The split.
    """

    def __init__(
        self, model: VQVAE, prior: Prior | None, device: torch.device, examples: Examples
    ) -> None:
        self.model, self.prior, self.device = model, prior, device
        self.examples = examples
        sizes = [quantizer.codebook_sizes for quantizer in model.quantizers]
        self.codes = CodeCounter(sizes, device=device)
        self.metrics = model.objective.modality.metrics(device)
        self.likelihood = Likelihood(device=device)
        several = len(model.quantizers) > 1
        self.levels = LevelTotals(model, examples, device=device) if several else None
        self.reliance = Reliance(device=device)
        # To draw large items position after position takes too long.
        autoregressive = isinstance(model.decoder, AutoregressiveDecoder)
        self.draws = not autoregressive or getattr(model.objective.modality, "draws_all", False)
        self.stages = StageTotals(model, device=device) if has_stages(model) else None

    def add(self, batch: Batch, other: Batch | None = None) -> None:
        """Counts a batch in.

        Args:
            batch: On the device; it has a mask only where items have holes.
            other: Of other items, whose codes the items are given for comparison.
        """
        model, out = self.model, self.model(batch.x, batch.mask)
        codes, said = out.codes, out.distribution
        if self.draws:
            self.metrics.add(batch.x, said.mode(), batch.mask)
        self.codes.add(codes)
        dims = num_dims(model, batch)
        decoder = own_log_prob(model, batch, out)
        prior = of_level = None
        if self.prior is not None:
            given = Conditioning(None if self.prior.num_classes is None else batch.labels)
            prior, of_level = log_probs(self.prior, codes, given)
        self.likelihood.add(
            codes,
            dims,
            numbers=batch.positions,
            labels=batch.labels,
            decoder=decoder,
            prior=prior,
            levels=of_level,
        )
        if decoder is None or other is None:
            self.reliance.add(dims)
        else:
            self._compare(batch, other, codes, dims, decoder)
        if self.levels is not None:
            self.levels.add(batch, out, decoder)
        if self.stages is not None:
            self.stages.add(batch, codes)

    def _compare(
        self, batch: Batch, other: Batch, codes: Codes, dims: Tensor, decoder: Tensor
    ) -> None:
        """Counts in what own codes save, of the items that are not their own partners."""
        theirs = self.model.encode(other.x)
        apart = batch.positions != other.positions
        given_other = log_prob_given(self.model, batch.x, theirs)
        unlike = codes.flat() != theirs.flat()
        found = (values[apart] for values in (decoder, given_other, unlike))
        self.reliance.add(dims[apart.to(dims.device)], *found)

    def _atlases(
        self, specs: Sequence[LevelSpec], stats: Sequence[Sequence[CodebookStats]], num: int
    ) -> list[Atlas]:
        """At most so many entries of each codebook, where a modality shows entries."""
        if not num or not self.model.objective.modality.shows_entries:
            return []
        places = [(i, j) for i, spec in enumerate(specs) for j in range(len(spec.codebook_sizes))]
        own = {"num": num, "device": self.device}
        return [
            draw_atlas(self.model, specs, stats, level=level, codebook=codebook, **own)
            for level, codebook in places
        ]

    def evaluation(self, num_shown: int, num_entries: int) -> Evaluation:
        """All that was found, on every rank; every rank must call it."""
        examples = self.examples
        measured, bits = self.metrics.results(), self.likelihood.results()
        finite = [*measured.values(), bits.get("decoder_bits_per_dim", 0.0)]
        if not all(map(math.isfinite, finite)):
            raise ValueError(
                "the reconstructions are not finite: the training went wrong; train again with a "
                "lower train.learning_rate"
            )
        one = collate([examples.example(0)], [0]).to(self.device)
        specs = self.model.encode(one.x, one.mask).specs
        stats = self.codes.stats()
        shown = show_items(self.model, examples, num_shown, self.device) if num_shown else None
        drawable = shown is not None and shown.originals is not None
        atlases = self._atlases(specs, stats, num_entries) if drawable else []
        exchanged, upto = [], None
        if self.levels is not None:
            exchanged, means = self.levels.results(), self.levels.means()
            if shown is not None:
                upto = show_levels(self.model, examples, means, num_shown, self.device)
        metrics = {
            "modality": self.model.objective.modality.name,
            "num_items": len(examples),
            "item_shape": list(one.x.shape[1:]),
            **measured,
            **bits,
            **self.reliance.results(),
            **rates_of(self.model, bits),
            "levels": summaries(specs, stats, exchanged),
            "tokenizer": self.model.fingerprint(),
            "data": getattr(examples, "fingerprint", None),
        }
        if self.prior is not None:
            metrics["prior_exact"] = self.prior.exact
        if self.stages is not None:
            rows = self.stages.results(measured, bits["code_bits_per_dim_uniform"])
            metrics["stages"] = [
                row | rates_of(self.model, {"code_bits_per_dim_uniform": row["bits_per_dim"]})
                for row in rows
            ]
        items = itemized(
            self.model, examples, self.likelihood.items(), NUM_EXTREMES if num_shown else 0
        )
        modality = self.model.objective.modality
        return Evaluation(modality, metrics, stats, specs, shown, tuple(atlases), items, upto)


def rates_of(model: VQVAE, bits: Mapping[str, float]) -> dict[str, float]:
    """Bits in the units of a modality that has units of its own for them; else nothing.

    Such a modality says so by a method ``rates(figures)``.
    """
    rates: Any = getattr(model.objective.modality, "rates", None)
    return {} if rates is None else rates(bits)


def summaries(
    specs: Sequence[LevelSpec],
    stats: Sequence[Sequence[CodebookStats]],
    exchanged: Sequence[dict[str, float]],
) -> list[dict[str, Any]]:
    """The shape and the use of each level and what it carries, as JSON values."""
    found: list[dict[str, Any]] = [
        {
            "grid": list(spec.grid),
            "structure": spec.structure,
            "codebooks": [book.summary() for book in books],
        }
        for spec, books in zip(specs, stats, strict=True)
    ]
    for level, figures in zip(found, exchanged, strict=False):  # nothing was exchanged in one level
        level["exchanged"] = figures
    return found
