"""The sections of a report about new images: beside real ones, class by class, and as copies."""

from collections.abc import Sequence
from html import escape
from typing import Any

import torch
from PIL import Image

from vqkit.drawing import changed
from vqkit.evaluation.captions import captioned
from vqkit.evaluation.generation import LEARNED, TRAINING, Generation
from vqkit.evaluation.page import number, picture, section, table
from vqkit.modalities.image.pictures import enlarge

NONE = "\N{EN DASH}"
SIDE = 96  # pixels that small images are enlarged to about, in the file
MOST_CLASSES = 20
NAMES = {LEARNED: "given prior", TRAINING: "training images"}
COLUMNS = {
    "frechet_distance": "Fréchet distance",
    "precision": "precision",
    "recall": "recall",
    "class_accuracy": "class accuracy",
}
SPACES = {
    "classifier": "what a small classifier, trained on the training images and their classes "
    "alone, knows of an image before it decides",
    "encoder": "what the tokenizer's own encoder makes of an image, averaged over places",
}
"""What is said of a feature space; of others their name."""


def sections(generation: Generation) -> list[str]:
    """All that was found of new images, as far as it was measured."""
    metrics = generation.metrics
    return [beside_real(metrics), class_by_class(metrics), neighbors(generation)]


def beside_real(metrics: dict[str, Any]) -> str:
    """The figures of each prior, and of training images as a reference."""
    parts = [name for name in ("histogram", LEARNED, TRAINING) if name in metrics]
    keys = [key for key in COLUMNS if any(key in metrics[part] for part in parts)]
    rows = [
        (NAMES.get(part, part), [shown(metrics[part].get(key)) for key in keys]) for part in parts
    ]
    if "classifier_accuracy" in metrics and "class_accuracy" in keys:
        own = [NONE] * (len(keys) - 1)
        rows.append(("held-out images", [*own, shown(metrics["classifier_accuracy"])]))
    space, num = metrics["features"]["name"], metrics["num_samples"]
    lead = (
        f"{num:,} new images of each prior beside {metrics['num_held_out']:,} held-out ones, as "
        f"{metrics['features']['dim']:,} features: {SPACES.get(space, f'those of {space}')}."
    )
    if settings := changed(metrics["drawings"][LEARNED]):
        lead += f" Those of the given prior are drawn with {settings}."
    k = f"k = {metrics['k']}".replace(" ", "\N{NO-BREAK SPACE}")
    words = (
        f"Smaller distances are better, and larger shares. Precision is the share of new images "
        f"that look like real ones, recall the share of real images that new ones come near to "
        f"({k}, {metrics['num_for_recall']:,} of both). Figures of other feature spaces or other "
        "numbers of images are not comparable."
    )
    if TRAINING in metrics:
        words += " As many training images, judged as if they were new, show what can be reached"
        ratio = metrics.get("recall_ratio")
        words += (
            "." if ratio is None else f"; the given prior has {percent(ratio)} of their recall."
        )
    body = f'{table(rows, heads=["", *(COLUMNS[key] for key in keys)])}<p class="soft">{words}</p>'
    return section("New images beside real ones", lead, body)


def shown(value: float | None) -> str:
    """A figure, or a dash for none."""
    return NONE if value is None else number(value)


def class_by_class(metrics: dict[str, Any]) -> str:
    """How often the classifier sees the class that was asked for, and that of real images."""
    classes = [row for row in metrics.get("classes", ()) if "accuracy_samples" in row]
    if not classes:
        return ""
    worst = sorted(classes, key=lambda row: row["accuracy_samples"])[:MOST_CLASSES]
    few = [row for row in classes if row in worst]
    which = f" The {len(few)} least certain of {len(classes)} classes." * (len(few) < len(classes))
    lead = (
        "How often the classifier, which saw neither codes nor samples, finds in a new image the "
        "class that it was drawn for; the mark is how often it is right on held-out images, "
        f"{percent(metrics['classifier_accuracy'])} over all classes.{which}"
    )
    bars = "".join(bar(row["name"], row["accuracy_samples"], row) for row in few)
    return section("Class by class", lead, f'<div class="bars">{bars}</div>')


def bar(name: str, share: float, row: dict[str, Any]) -> str:
    """A share as a bar, beside its name and figure; a mark for that of held-out images."""
    real = row.get("accuracy_held_out")
    mark = "" if real is None else f'<i style="left: {100 * real:.1f}%"></i>'
    beside = "" if real is None else f' <span class="soft">of {percent(real)}</span>'
    return (
        f'<div><span>{escape(name)}</span><span class="track"><b style="width: '
        f'{100 * share:.1f}%"></b>{mark}</span><span>{percent(share)}{beside}</span></div>'
    )


def percent(value: float) -> str:
    """A share as a percentage."""
    return f"{number(100 * value, 2)} %"


def neighbors(generation: Generation) -> str:
    """Some new images above the training images that are most like them."""
    if not generation.neighbors:
        return ""
    rows = ['<div class="classes">']
    for name, images in zip(row_names(generation), rows_of(generation), strict=True):
        pictures = "".join(picture(image, name) for image in images)
        strip = f'<div class="strip wide" style="--columns: {len(images)}">{pictures}</div>'
        rows.append(f"<span>{escape(name)}</span>{strip}")
    lead = "Does it copy? Below each new image the training images that are most like it."
    words = "".join(
        f"<p>{escape(words)}</p>" for words in in_words(generation.metrics["neighbors"])
    )
    return section("Nearest training images", lead, f"{''.join(rows)}</div>{words}")


def in_words(near: dict[str, Any]) -> list[str]:
    """What the distances to training images mean."""
    own, others = number(near["median_distance"]), number(near["median_distance_held_out"])
    nearer = percent(near["share_nearer_than_held_out"])
    said = [
        f"From a new image it is {own} to the nearest of {near['num_training']:,} training images "
        f"(median), from a held-out image {others}. {nearer} of the new images are nearer than "
        "half of the held-out images are; of images that are as new as those it would be 50 %."
    ]
    if near["copies"]:
        what = "image is" if near["copies"] == 1 else "images are"
        said.append(f"{near['copies']:,} new {what} not to be told from a training image.")
    return said


def row_names(generation: Generation) -> Sequence[str]:
    """What each row of new images and their neighbours is called."""
    return ["new", "nearest", "second", "third"][: 1 + len(generation.neighbors)]


def rows_of(generation: Generation) -> Sequence[torch.Tensor]:
    """New images, then their nearest training images, and so on. Each (N, C, H, W) uint8"""
    return [generation.samples, *generation.neighbors]


def sheet(generation: Generation) -> Image.Image:
    """The same as a picture."""
    images = enlarge(torch.cat(list(rows_of(generation))), SIDE)
    return captioned(images, len(generation.samples), names=row_names(generation))
