"""Evaluates a model on a whole split."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import repeat
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes, LevelSpec
from vqkit.data import Batch, Examples, collate, in_order
from vqkit.distributed import rank, world_size
from vqkit.evaluation.codebook import CodebookStats, CodeCounter
from vqkit.evaluation.gallery import Atlas, Shown, draw_atlas, show_items
from vqkit.evaluation.items import Items, itemized
from vqkit.evaluation.levels import LevelPictures, LevelTotals, show_levels
from vqkit.evaluation.likelihood import Likelihood
from vqkit.evaluation.reliance import (
    Reliance,
    fit_together,
    log_prob_given,
    own_log_prob,
    partners,
)
from vqkit.modalities.base import Modality
from vqkit.nn import AutoregressiveDecoder
from vqkit.nn.dropout import no_dropout
from vqkit.nn.evaluating import device_of, evaluating
from vqkit.priors import Conditioning, Prior
from vqkit.tokens.progress import advancing
from vqkit.tokens.sizes import by_size

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
        shown: Some items with reconstructions and codes; None if they are no pictures.
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
    items = range(first, last)
    batches = in_order(examples, batch_size, indices=items, num_workers=num_workers)
    others: Iterable[Batch | None] = repeat(None)
    if model.objective.claims_likelihood and len(examples) > 1:
        shifted = partners(items, len(examples))
        others = in_order(examples, batch_size, indices=shifted, num_workers=num_workers)
    with evaluating(model), advancing("evaluating", last - first, show=progress) as advance:
        for batch, other in zip(batches, others, strict=False):
            if other is not None and fit_together(batch, other):
                totals.add(batch.to(place), other.to(place))
            else:
                for part in by_size(batch):
                    totals.add(part.to(place))
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

    def add(self, batch: Batch, other: Batch | None = None) -> None:
        """Counts a batch in.

        Args:
            batch: On the device; it has a mask only where items have holes.
            other: Of other items, whose codes the items are given for comparison.
        """
        model, out = self.model, self.model(batch.x, batch.mask)
        codes, said = out.codes, out.distribution
        if not isinstance(model.decoder, AutoregressiveDecoder):  # to draw all takes too long
            self.metrics.add(batch.x, said.mode(), batch.mask)
        self.codes.add(codes)
        dims = batch.x[0].numel() * torch.ones(len(batch), dtype=torch.int64)
        if batch.mask is not None:
            dims = batch.mask.flatten(1).sum(1) * batch.x.shape[1]
        decoder, given_other = own_log_prob(model, batch, out), None
        if decoder is not None and other is not None:
            given_other = log_prob_given(model, batch.x, other.x)
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
        self.reliance.add(dims, decoder, given_other)
        if self.levels is not None:
            self.levels.add(batch, out, decoder)

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
        atlases: list[Atlas] = []
        if shown is not None and num_entries and self.model.objective.modality.shows_entries:
            atlases = [
                draw_atlas(
                    self.model,
                    specs,
                    stats,
                    level=level,
                    codebook=codebook,
                    num=num_entries,
                    device=self.device,
                )
                for level, spec in enumerate(specs)
                for codebook in range(len(spec.codebook_sizes))
            ]
        exchanged, upto = [], None
        if self.levels is not None:
            exchanged, means = self.levels.results(), self.levels.means()
            if shown is not None:
                upto = show_levels(self.model, examples, means, num_shown, self.device)
        metrics = {
            "modality": self.model.objective.modality.name,
            "num_items": len(examples),
            "item_shape": list(one.x.shape[1:]),
            "tokens_per_item": sum(spec.num_tokens for spec in specs),
            **measured,
            **bits,
            **self.reliance.results(),
            "levels": summaries(specs, stats, exchanged),
            "tokenizer": self.model.fingerprint(),
            "data": getattr(examples, "fingerprint", None),
        }
        if self.prior is not None:
            metrics["prior_exact"] = self.prior.exact
        items = itemized(
            self.model, examples, self.likelihood.items(), NUM_EXTREMES if num_shown else 0
        )
        modality = self.model.objective.modality
        return Evaluation(modality, metrics, stats, specs, shown, tuple(atlases), items, upto)


def log_probs(prior: Prior, codes: Codes, given: Conditioning) -> tuple[Tensor, Tensor | None]:
    """The log-probability of each item, as ``prior.log_prob`` has it, and of each of its levels.

    Returns:
        (B,), and for each level given those before it (B, num_levels): None with one level, and
        from a prior that has a bound of the whole alone. float64
    """
    with no_dropout():
        nats = prior.nats(codes, given).double()
    whole = prior.log_prob_lengths(codes).to(nats) - nats.sum(1)
    if len(codes.levels) == 1 or not prior.exact:
        return whole, None
    parts = nats.split([spec.num_tokens for spec in codes.specs], dim=1)
    return whole, torch.stack([-part.sum(1) for part in parts], dim=1)


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
