"""The part of a report about several levels of codes."""

import math
from collections.abc import Sequence
from html import escape
from typing import Any

import torch
from PIL import Image

from vqkit.codes import LevelSpec
from vqkit.evaluation.captions import captioned, together
from vqkit.evaluation.levels import LevelPictures, findings, name_of
from vqkit.evaluation.page import CRISP_BELOW, first_up, number, picture, section, table, times
from vqkit.modalities.image.pictures import enlarge

LEAD = (
    "From left to right: the image, what the decoder makes of the coarsest level alone, of the "
    "coarsest two, and so on to all. "
)
HIDDEN = "The other levels are hidden from the decoder, as in part of the training."
NEUTRAL = (
    "In a level that is left out every code is the one nearest to the mean of what that level's "
    "codes stand for over the split, which says least."
)
ABLATION = (
    "What a level carries shows when each image gets that level's codes of the image before it, "
    "and keeps its own in all others."
)
MOST_ROWS = 12


def levels(metrics: dict[str, Any], specs: Sequence[LevelSpec], shown: LevelPictures | None) -> str:
    """What each level carries, in pictures and figures; nothing for one level."""
    if len(specs) < 2:
        return ""
    body = "" if shown is None else rows(shown)
    figures = [level["exchanged"] for level in metrics["levels"] if "exchanged" in level]
    if figures:
        warnings = "".join(f"<p>{escape(first_up(line))}.</p>" for line in findings(figures))
        body += f'<div class="body"><p class="soft">{ABLATION}</p>{warnings}'
        body += f'<div class="body">{ablation(metrics, specs)}</div></div>'
    lead = "" if shown is None else LEAD + (HIDDEN if shown.hidden else NEUTRAL)
    return section("Levels", lead, body) if body else ""


def rows(shown: LevelPictures) -> str:
    """For each item the image and what its coarsest levels decode to."""
    cards = []
    for i, index in enumerate(shown.indices[:MOST_ROWS]):
        row = [
            f'<div>{picture(images[i], f"{words} of {index}")}<div class="soft">{words}</div></div>'
            for words, images in zip(heads(shown), (shown.originals, *shown.upto), strict=True)
        ]
        cards.append(f'<figure><div class="row">{"".join(row)}</div></figure>')
    wide = len(shown.upto) > 2 or max(shown.originals.shape[-2:]) >= CRISP_BELOW
    return f'<div class="triples{" large" if wide else ""}">{"".join(cards)}</div>'


def heads(shown: LevelPictures) -> list[str]:
    """What stands above the pictures of a row."""
    upto = ["level 1", *(f"levels 1-{k}" for k in range(2, len(shown.upto)))]
    return ["original", *upto, "all levels"]


def ablation(metrics: dict[str, Any], specs: Sequence[LevelSpec]) -> str:
    """A row for each level: its codes, their use, and what is lost without them."""
    drawn = "mse" in metrics  # not by a decoder of one pixel after another
    told = [("Items as they are", ["", "", *([number(metrics["mse"]), ""] if drawn else [])])]
    bits = "decoder_bits_per_dim" in metrics
    if bits:
        told[0][1].append(number(metrics["decoder_bits_per_dim"]))
    for place, (spec, level) in enumerate(zip(specs, metrics["levels"], strict=True)):
        found = level["exchanged"]
        used = [book["usage"] for book in level["codebooks"]]
        cells = [
            times(spec.grid),
            f"{number(100 * min(used))} %",
        ]
        if drawn:
            cells += [number(found["mse"]), f"{100 * found['mse_rise']:+,.1f} %"]
        if bits:
            cells.append(number(found["decoder_bits_per_dim"]))
        told.append((f"{name_of(place, specs)}: exchanged", cells))
    columns = ["", "codes", "entries used", *["mse", "rise"] * drawn, *["bits/dim"] * bits]
    return table(told, heads=columns)


def sheet(shown: LevelPictures, side: int) -> Image.Image:
    """For each item the image, then what its coarsest levels decode to; several items in a row.

    Args:
        shown: What to draw.
        side: Pixels that small images are enlarged to about.
    """
    parts = enlarge(torch.stack([shown.originals, *shown.upto], dim=1)[:MOST_ROWS], side)
    blocks = math.ceil(math.sqrt(len(parts) / parts.shape[1]))  # about square
    return together(
        [
            captioned(block.flatten(0, 1), parts.shape[1], heads=heads(shown))
            for block in parts.split(-(-len(parts) // blocks))
        ],
        side // 4,
    )
