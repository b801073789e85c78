"""The section of a report about what a probe found, if one was run."""

from html import escape
from pathlib import Path
from typing import Any

from vqkit.evaluation.page import number, section, table
from vqkit.modalities.base import Modality
from vqkit.storage import read_json

PROBE = "probe.json"
NAMES = {
    "histogram": "histogram of codes",
    "histogram_in_place": "histogram of each part",
    "first_in_place": "the same, first stage",
    "z_q": "mean z_q",
    "z_q_in_place": "mean z_q of each part",
    "z_e": "mean z_e, unquantized",
    "z_e_in_place": "mean z_e of each part",
    "input": "raw input",
}
"""What the features are called."""


def probe(folder: Path, tokenizer: str, kind: Modality) -> str:
    """How often a linear classifier is right from each kind of features.

    Args:
        folder: The run folder.
        tokenizer: Fingerprint of the one that is reported; what was found of another is not shown.
        kind: Of the items.
    """
    path = folder / PROBE
    found = read_json(path, "run vqkit probe again") if path.is_file() else {}
    if found.get("tokenizer") != tokenizer:
        return ""
    usual = found["majority_class"]["accuracy"]
    lead = (
        f"How often a linear classifier, which learned from {found['num_train']:,} {kind.items}, "
        f"finds the class of one of {found['num_held_out']:,} others ({found['split']}), with 95 % "
        f"confidence intervals. The mark is the most frequent class, {percent(usual)}."
    )
    bars = "".join(
        bar(NAMES[name], each["accuracy"], each["interval"], usual)
        for name, each in found["features"].items()
    )
    return section("Codes as features", lead, f'<div class="bars">{bars}</div>{units(found)}')


def bar(name: str, share: float, interval: tuple[float, float], usual: float) -> str:
    """A share as a bar, beside its name and its interval."""
    low, high = (number(100 * end, 3) for end in interval)
    return (
        f'<div><span>{escape(name)}</span><span class="track"><b style="width: {100 * share:.1f}%">'
        f'</b><i style="left: {100 * usual:.1f}%"></i></span><span>{percent(share)} '
        f'<span class="soft">{low}-{high}</span></span></div>'
    )


def units(found: dict[str, Any]) -> str:
    """What the codes of each codebook share with the classes."""
    rows = [
        (
            f"level {unit['level'] + 1}, codebook {unit['codebook'] + 1}",
            [
                number(unit["nmi"]),
                percent(unit["label_purity"]),
                percent(unit["majority"]),
                percent(unit["code_purity"]),
            ],
        )
        for unit in found["units"]
    ]
    heads = ["", "mutual information", "class purity", "without codes", "code purity"]
    return f'<div class="body">{table(rows, heads=heads)}</div>'


def percent(share: float) -> str:
    """A share as a percentage."""
    return f"{number(100 * share, 3)} %"
