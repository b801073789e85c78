"""The sections of a report about code length, training, samples and where figures come from."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import groupby
from typing import Any

from torch import Tensor

from vqkit.evaluation.charts import Series, line_chart
from vqkit.evaluation.evaluation import Evaluation
from vqkit.evaluation.history import Curve, History
from vqkit.evaluation.page import first_up, number, picture, play, section, table
from vqkit.evaluation.reliance import finding
from vqkit.modalities.base import Media, Modality, bits_unit
from vqkit.modalities.image.pictures import to_uint8

UNLABELLED_COLUMNS = 8


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """Items drawn from one prior.

    Attributes:
        name: Of the prior.
        images: Pictures of them, uint8 or floating in [-1, 1]; None if ``media`` are all that
            there is. (N, C, H, W)
        labels: The class each was drawn for, those of one class together; None without. N
        note: What else to say of it, such as its nats per token.
        media: How a page plays them; none where pictures are all. N
    """

    name: str
    images: Tensor | None
    labels: tuple[str, ...] | None = None
    note: str = ""
    media: tuple[Media, ...] = ()


def code_length(
    metrics: dict[str, Any], kind: Modality, held_out: tuple[int, dict[str, float]]
) -> str:
    """What a lossless copy of an item would cost, part by part.

    Args:
        metrics: Figures of the evaluation.
        kind: Of the items.
        held_out: What ``read_baselines`` gave. If it is over the items of the evaluation, the
            histogram has a column; else its figures stand below, with what they are over.
    """
    num_items, nats = held_out
    same = same_items(metrics, num_items, nats)
    if same:
        metrics = metrics | histogram_figures(metrics, nats["histogram"])
    names = {"uniform": "uniform prior", "histogram": "histogram", "prior": "given prior"}
    if metrics.get("prior_exact") is False:
        names["prior"] = "given prior, at most"
    priors = [part for part in names if f"code_bits_{part}" in metrics]

    def row(key: str) -> list[str]:
        return [number(metrics[f"{key}_{part}"], 4) for part in priors]

    unit = bits_unit(kind)
    rows = [
        (f"Codes, bits per {kind.item}", row("code_bits")),
        ("Codes, nats per token", row("nats_per_token")),
        (f"Codes, {unit}", row("code_bits_per_dim")),
    ]
    lead = f"What the codes of {kind.an_item} cost."
    if "decoder_bits_per_dim" in metrics:
        decoder = [number(metrics["decoder_bits_per_dim"], 4)] * len(priors)
        rows.append((f"{first_up(kind.item)} given its codes, {unit}", decoder))
        rows.append((f"Sum, {unit}", row("bits_per_dim")))
        lead = (
            f"What a lossless copy of {kind.an_item} would cost: its codes, and its values given "
            f"the codes. A dimension is {kind.dimension}; stored plainly it costs {kind.plain[0]} "
            "bits."
        )
    if metrics.get("prior_exact") is False:
        lead += " The given prior has a bound and no exact probability: the cost is at most this."
    if "code_reliance_bits_per_dim" in metrics:
        saved = [number(metrics["code_reliance_bits_per_dim"], 4)] * len(priors)
        rows.append((f"Saved by the own codes against another {kind.item}'s, {unit}", saved))
    if ignored := finding(metrics):
        lead += f" {first_up(ignored)}."
    body = table(rows, heads=["", *(names[part] for part in priors)])
    if nats and not same and "code_bits_prior" in metrics:
        what = f"Codes of the {num_items:,} {kind.items} held out in training, nats per token"
        figures = [number(value, 4) for value in nats.values()]
        body += f'<div class="body">{table([(what, figures)], heads=["", *nats])}</div>'
    return section("Code length", lead, body)


def same_items(metrics: dict[str, Any], num_items: int, nats: dict[str, float]) -> bool:
    """Whether the baselines were measured on the items of an evaluation.

    They were if there are as many, and the learned prior, the last, found the same for them.
    """
    if "histogram" not in nats or "nats_per_token_prior" not in metrics:
        return False
    *_, learned = nats.values()
    close = math.isclose(learned, metrics["nats_per_token_prior"], rel_tol=1e-4)
    return close and num_items == metrics["num_items"]


def histogram_figures(metrics: dict[str, Any], nats: float) -> dict[str, float]:
    """The figures of the histogram prior, from its nats per token and those of the given prior."""
    share = nats / metrics["nats_per_token_prior"]
    found = {
        f"{key}_histogram": share * metrics[f"{key}_prior"]
        for key in ("code_bits", "nats_per_token", "code_bits_per_dim")
    }
    decoder = metrics.get("decoder_bits_per_dim")
    if decoder is not None:
        found["bits_per_dim_histogram"] = decoder + found["code_bits_per_dim_histogram"]
    return found


def training(history: History, kind: Modality) -> str:
    """Curves over the steps of training."""
    if not history.curves:
        return ""
    figures = [
        f"<figure><h3>{escape(curve.title)}</h3>{line_chart(curve.title, lines(curve))}</figure>"
        for curve in history.curves
    ]
    legend = '<span class="key training"></span>training batches'
    if any(curve.held_out for curve in history.curves):
        legend += f' &ensp; <span class="key held-out"></span>held-out {kind.items}'
    body = f'<p class="soft">{legend}</p><div class="body charts">{"".join(figures)}</div>'
    return section("Training", "", body)


def lines(curve: Curve) -> list[Series]:
    """The lines of a curve that have points."""
    both = (("training", curve.training), ("held-out", curve.held_out))
    return [Series(name, points, name) for name, points in both if points]


def health(history: History) -> str:
    """What the monitor said while the model was trained."""
    if not history.health:
        return ""
    items = "".join(
        f'<li><span class="soft">Step {step:,}</span><br>{escape(line)}</li>'
        for step, line in history.health
    )
    return section("Health", "What the monitor said.", f'<ul class="health">{items}</ul>')


def samples(groups: Sequence[Samples], kind: Modality) -> str:
    """New items from priors, side by side."""
    if not groups:
        return ""
    parts = []
    for group in groups:
        note = f'<p class="soft">{escape(group.note)}</p>' if group.note else ""
        sheets = "".join(sample_rows(group))
        parts.append(
            f'<div><h3>{escape(group.name)}</h3>{note}<div class="body">{sheets}</div></div>'
        )
    lead = f"New codes drawn from a prior and decoded: {kind.items} that were never in the data."
    return section("Samples", lead, f'<div class="samples">{"".join(parts)}</div>')


def sample_rows(group: Samples) -> list[str]:
    """All items together, or one row for each class."""
    images = None if group.images is None else to_uint8(group.images).cpu()
    if group.labels is None:
        num = len(group.media if images is None else images)
        return [strip(images, min(UNLABELLED_COLUMNS, num), group.name, group.media)]
    rows, start = ['<div class="classes">'], 0
    for label, same in groupby(group.labels):
        stop = start + len(list(same))
        name, media = f"{label}, {group.name}", group.media[start:stop]
        part = None if images is None else images[start:stop]
        row = strip(part, stop - start, name, media)
        rows.append(f"<span>{escape(label)}</span>{row}")
        start = stop
    return [*rows, "</div>"]


def strip(images: Tensor | None, columns: int, name: str, media: Sequence[Media] = ()) -> str:
    """Pictures side by side, so many in a row, each with what a page plays; or that alone."""
    if images is None:
        return f'<div class="texts">{"".join(map(play, media))}</div>'
    shown = [picture(image, f"sample: {name}") for image in images]
    if media:
        shown = [f"<div>{a}{play(b)}</div>" for a, b in zip(shown, media, strict=True)]
    parts = "".join(shown)
    return f'<div class="strip" style="--columns: {columns}">{parts}</div>'


def footer(evaluation: Evaluation) -> str:
    """What the figures are, and what they were measured on."""
    metrics = evaluation.metrics
    data = metrics["data"] or "without fingerprint"
    return (
        f"<footer><p>Every figure is over the whole split. {evaluation.modality.scale} "
        "Perplexity is the exponential of the entropy of the codes. All figures are in "
        "<code>metrics.json</code>, the pictures in <code>pictures/</code>.</p>"
        f"<p>Tokenizer <code>{escape(metrics['tokenizer'][:16])}</code> · data "
        f"<code>{escape(data[:16])}</code></p></footer>"
    )
