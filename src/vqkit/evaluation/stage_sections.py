"""The part of a report about leading stages of residual codes."""

from typing import Any

from vqkit.evaluation.page import number, section, table
from vqkit.modalities.base import Modality

LEAD = (
    "Any number of leading stages decodes. What each number costs, every code taking the bits of "
    "its table's size, and how good it is over the whole split."
)


def stages(metrics: dict[str, Any], kind: Modality) -> str:
    """Quality for each number of stages; nothing where that was not measured."""
    rows = metrics.get("stages", ())
    if not rows:
        return ""
    figures = [figure for figure in kind.figures if all(figure.key in row for row in rows)]
    heads = [f"{each.name}, {each.unit}" if each.unit else each.name for each in figures]
    body = [
        (str(row["stages"]), [number(row[figure.key], 4) for figure in figures]) for row in rows
    ]
    return section("Stages", LEAD, table(body, heads=["Stages", *heads]))
