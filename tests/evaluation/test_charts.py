"""What must hold for charts."""

import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest
import torch

from vqkit.evaluation.charts import Axis, Series, line_chart, standalone, usage_chart
from vqkit.evaluation.codebook import CodebookStats


def drawn(drawing: str) -> list[str]:
    """The texts of a chart, which must be well-formed and hold numbers alone."""
    root = ElementTree.fromstring(drawing)
    assert not re.search(r"\b(nan|inf|None)\b", drawing)
    return [element.text or "" for element in root.iter() if element.tag.endswith("text")]


@pytest.mark.parametrize("low", [0, -3, 0.001, 12, 1e6])
@pytest.mark.parametrize("span", [0.01, 1, 7, 1234])
def test_ticks_are_few_round_and_inside(low: float, span: float):
    ticks = Axis(low, low + span, 0, 100).ticks()
    assert 2 <= len(ticks) <= 6
    assert all(low - 1e-6 <= tick <= low + span + 1e-6 for tick in ticks)
    steps = {round(b - a, 6) for a, b in pairwise(ticks)}
    assert len(steps) == 1
    assert float(f"{steps.pop():e}"[0]) in (1, 2, 5)


@pytest.mark.parametrize(("low", "high"), [(1, 2), (0.3, 40), (1, 1e6), (0.6, 9e8)])
def test_logarithmic_ticks_are_inside(low: float, high: float):
    ticks = Axis(low, high, 0, 100, log=True).ticks()
    assert 1 <= len(ticks) <= 12
    assert all(low <= tick <= high for tick in ticks)


@pytest.mark.parametrize(
    "values",
    [[1.0, 2.0], [5.0, 5.0], [0.0, 0.0], [-1.0, 3.0], [1e-6, 1e6], [100.0], list(range(5000))],
)
def test_any_curve_can_be_drawn(values: list[float]):
    points = [(step, float(value)) for step, value in enumerate(values)]
    drawing = line_chart("Loss", [Series("training", points, "training")])
    assert "step" in drawn(drawing)
    assert len(drawing) < 20_000


def test_a_curve_rises_where_its_values_do():
    drawing = line_chart("x", [Series("training", [(0, 1.0), (10, 2.0), (20, 1.5)], "training")])
    pairs = re.search(r' d="M([^"]+)"', drawing)[1].split("L")
    heights = [float(pair.split()[1]) for pair in pairs]
    assert heights[1] < heights[2] < heights[0]  # downward in the picture


@pytest.mark.parametrize("size", [2, 64, 512, 100_000])
def test_the_use_of_any_number_of_entries_can_be_drawn(size: int):
    torch.manual_seed(0)
    counts = (torch.randn(size).exp() * 5).long()
    counts[0] += 1
    stats = CodebookStats(size, counts)
    drawing = usage_chart(stats)
    assert f"perplexity {stats.perplexity:.4g}" in drawn(drawing)
    assert "even use" in drawn(drawing)
    assert len(drawing) < 20_000
    assert drawn(standalone(drawing)) == drawn(drawing)
    assert "var(" not in standalone(drawing)


def test_perplexity_is_marked_at_its_place_among_the_entries():
    stats = CodebookStats(100, torch.tensor([10] * 25 + [0] * 75))
    drawing = usage_chart(stats)
    mark = float(re.search(r'class="mark" x1="([\d.]+)"', drawing)[1])
    left, right = map(
        float, re.search(r'class="rule" x1="([\d.]+)" x2="([\d.]+)"', drawing).groups()
    )
    assert (mark - left) / (right - left) == pytest.approx(0.25, abs=0.002)


def test_nothing_counted_draws_nothing():
    assert usage_chart(CodebookStats(4, torch.zeros(4).long())) == ""
