"""What a run wrote while it trained, as far as a report shows it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqkit.evaluation.charts import Point

CURVES = {
    "loss": "Loss",
    "psnr": "PSNR, dB",
    "accuracy": "Share of symbols right",
    "bits_per_dim": "Bits/dim",
    "perplexity": "Perplexity",
}


@dataclass(frozen=True, slots=True)
class Curve:
    """One quantity over the steps of training.

    Attributes:
        title: What it is, with its unit.
        training: Step and value, on training batches.
        held_out: Step and value, on held-out examples; maybe none.
    """

    title: str
    training: Sequence[Point]
    held_out: Sequence[Point]


@dataclass(frozen=True, slots=True)
class History:
    """What is known of a run.

    Attributes:
        curves: Quantities that have at least two points.
        health: What the monitor said, with the step at which it did.
    """

    curves: tuple[Curve, ...]
    health: tuple[tuple[int, str], ...]


def read_history(path: Path) -> History:
    """Reads metrics.jsonl; lines and keys that are not understood are passed over.

    Args:
        path: Of the file; an empty history if it is not there.
    """
    lines = [] if not path.is_file() else path.read_text("utf-8", errors="replace").splitlines()
    records = [record for record in map(parse, lines) if record is not None]
    found: dict[str, tuple[list[Point], list[Point]]] = {}
    health: list[tuple[int, str]] = []
    for record in records:
        step = record["step"]
        for where, values in enumerate((record, record.get("eval"))):
            for title, value in curve_values(values):
                found.setdefault(title, ([], []))[where].append((step, value))
        said = record.get("health")
        health += [(step, str(line)) for line in said] if isinstance(said, list) else []
    curves = [Curve(title, *points) for title, points in found.items() if max(map(len, points)) > 1]
    return History(tuple(curves), tuple(health))


def read_baselines(path: Path) -> tuple[int, dict[str, float]]:
    """Reads the priors.json of a prior's run: what its tokens cost under it and the baselines.

    Args:
        path: Of the file.

    Returns:
        Number of items that were held out, and nats per token over them by the name of the prior,
        the learned one last; 0 and nothing if the file is not there or not understood.
    """
    try:
        found = json.loads(path.read_text("utf-8"))
        nats = {str(name): float(value) for name, value in found["nats_per_token"].items()}
        return int(found["num_items"]), nats
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        return 0, {}


def parse(line: str) -> dict[str, Any] | None:
    """A line that is an object with a step; None if it is anything else, or was cut."""
    try:
        record = json.loads(line)
    except json.JSONDecodeError:
        return None
    known = isinstance(record, dict) and type(record.get("step")) is int
    return record if known else None


def curve_values(values: Any) -> list[tuple[str, float]]:
    """Titles and values of what is drawn; a list has one value per codebook."""
    if not isinstance(values, Mapping):
        return []
    found = []
    for key, title in CURVES.items():
        value = values.get(key)
        several = value if isinstance(value, list) else [value]
        for number, one in enumerate(several):
            name = title if len(several) == 1 else f"{title}, codebook {number + 1}"
            if isinstance(one, int | float) and math.isfinite(one):
                found.append((name, float(one)))
    return found
