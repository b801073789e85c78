"""Charts as inline SVG: crisp at any size, coloured by the page they stand on."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

from vqkit.evaluation.codebook import CodebookStats
from vqkit.evaluation.style import CLASSES

WIDE, NARROW = (440, 270), (350, 220)  # width and height
LEFT, RIGHT, TOP, BOTTOM = 46, 10, 26, 42  # around the area of the curves
MOST_POINTS = 240

Point = tuple[float, float]
Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a chart.

    Attributes:
        name: What it is, for the legend.
        points: x and y, in the order of x.
        style: CSS class of the line.
    """

    name: str
    points: Sequence[Point]
    style: str


@dataclass(frozen=True, slots=True)
class Axis:
    """A scale from values to places in the picture.

    Attributes:
        low: Value at ``start``.
        high: Value at ``stop``.
        start: Place in pixels.
        stop: Place in pixels.
        log: Whether the scale is logarithmic.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log(v) if self.log else v for v in (self.low, self.high))
        place = math.log(value) if self.log else value
        return self.start + (self.stop - self.start) * (place - low) / (high - low)

    def ticks(self) -> list[float]:
        """Round values inside the scale."""
        if self.log:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            steps = (1,) if len(decades) > 3 else (1, 2, 5)
            values = [step * 10.0**decade for decade in decades for step in steps]
        else:
            step = nice_step(self.high - self.low)
            first = math.ceil(self.low / step - 1e-9)
            values = [step * i for i in range(first, math.floor(self.high / step + 1e-9) + 1)]
        slack = 1e-9 * (self.low if self.log else self.high - self.low)
        return [value for value in values if self.low - slack <= value <= self.high + slack]


def nice_step(span: float, most: int = 5) -> float:
    """The least of 1, 2 or 5 times a power of ten that parts a span in ``most`` or less."""
    raw = span / most
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))


def short(value: float) -> str:
    """A number for an axis: 1500 as 1.5k, 0.05 as it is."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def frame(x: Axis, y: Axis, x_label: str) -> list[str]:
    """Grid lines and numbers of both axes."""
    parts: list[str] = []
    for value in y.ticks():
        at = y(value)
        parts.append(
            f'<line class="grid" x1="{x.start}" x2="{x.stop}" y1="{at:.1f}" y2="{at:.1f}"/>'
        )
        parts.append(f'<text x="{x.start - 8}" y="{at + 4:.1f}" class="end">{short(value)}</text>')
    for value in x.ticks():
        parts.append(
            f'<text x="{x(value):.1f}" y="{y.start + 18}" class="mid">{short(value)}</text>'
        )
    middle = (x.start + x.stop) / 2
    parts.append(
        f'<text x="{middle}" y="{y.start + BOTTOM - 5}" class="mid">{escape(x_label)}</text>'
    )
    return parts


def axes(size: tuple[int, int], x: Span, y: Span, *, log: bool) -> tuple[Axis, Axis]:
    """The scales of a chart of this width and height; ``log`` is about the vertical one."""
    width, height = size
    return Axis(*x, LEFT, width - RIGHT), Axis(*y, height - BOTTOM, TOP, log)


def svg(parts: Sequence[str], size: tuple[int, int], label: str) -> str:
    """A picture of these parts, described by ``label`` for those who cannot see it."""
    width, height = size
    return (
        f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">'
        f"{''.join(parts)}</svg>"
    )


def standalone(drawing: str) -> str:
    """A chart as a file of its own, dark on white."""
    plain = CLASSES.replace("var(--rule)", "#ddd").replace("var(--soft)", "#555")
    plain = plain.replace("var(--accent)", "#2f5fd0").replace("var(--second)", "#c2571a")
    plain = plain.replace("var(--area)", "#2f5fd033")
    opening = f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDE[0]}" '
    style = f'<style>{plain}</style><rect width="100%" height="100%" fill="#fff"/>'
    head, rest = drawing.split(">", 1)
    return f"{opening}{head.removeprefix('<svg ')}>{style}{rest}\n"


def path(points: Sequence[Point], x: Axis, y: Axis) -> str:
    """A line through points, as the value of an SVG path."""
    return "M" + "L".join(f"{x(a):.1f} {y(b):.1f}" for a, b in points)


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most ``MOST_POINTS`` points, each the mean of its neighbours."""
    size = -(-len(points) // MOST_POINTS)
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(sum(a for a, _ in g) / len(g), sum(b for _, b in g) / len(g)) for g in groups]


def line_chart(title: str, series: Sequence[Series]) -> str:
    """Curves over the steps of training; on a logarithmic scale where they span much.

    Args:
        title: What is shown, with its unit.
        series: At least one, none empty.
    """
    values = [value for one in series for _, value in one.points]
    steps = [step for one in series for step, _ in one.points]
    low, high = min(values), max(values)
    log = low > 0 and high > 20 * low
    if not log:
        margin = (high - low) * 0.06 or abs(high) * 0.1 or 1.0
        low, high = low - margin, high + margin
    elif math.log10(high / low) < 1:
        low, high = low / 2, high * 2
    x, y = axes(NARROW, (min(0, *steps), max(*steps, 1)), (low, high), log=log)
    parts = frame(x, y, "step")
    for one in series:
        points = thinned(one.points)
        parts.append(f'<path class="line {one.style}" d="{path(points, x, y)}"/>')
        if len(points) <= 20:
            parts += [
                f'<circle class="{one.style}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="3"/>'
                for a, b in points
            ]
    return svg(parts, NARROW, f"{title} over {short(max(steps))} steps")


def usage_chart(stats: CodebookStats) -> str:
    """How often each entry was used, most used first, on a logarithmic scale.

    Beside it stand even use, and the perplexity: the number of entries that would do if all were
    used alike.
    """
    counts = sorted(stats.counts.tolist(), reverse=True)
    used = [count for count in counts if count > 0]
    if not used:
        return ""
    even = stats.num_vectors / stats.size
    low = min(used[-1], even) / 1.6
    x, y = axes(WIDE, (0, stats.size), (low, max(used[0], even) * 1.3), log=True)
    parts = frame(x, y, "entries, most used first")
    steps = [places(used, i) for i in range(min(len(used), MOST_POINTS) + 1)]
    outline = [(float(steps[0]), low)]
    for start, stop in pairwise(steps):
        height = sum(used[start:stop]) / (stop - start)
        outline += [(start, height), (stop, height)]
    outline.append((float(steps[-1]), low))
    parts.append(f'<path class="area" d="{path(outline, x, y)}Z"/>')
    at = y(even)
    parts.append(f'<line class="rule" x1="{x.start}" x2="{x.stop}" y1="{at:.1f}" y2="{at:.1f}"/>')
    mark, late = x(stats.perplexity), stats.perplexity > stats.size / 2
    where, side = (x.start + 8, "start") if late else (x.stop, "end")
    parts.append(f'<text x="{where}" y="{at - 6:.1f}" class="{side}">even use</text>')
    parts.append(f'<line class="mark" x1="{mark:.1f}" x2="{mark:.1f}" y1="{TOP}" y2="{y.start}"/>')
    side, offset = ("end", -6) if late else ("start", 6)
    parts.append(
        f'<text x="{mark + offset:.1f}" y="{TOP - 8}" class="{side} strong">'
        f"perplexity {stats.perplexity:.4g}</text>"
    )
    return svg(parts, WIDE, f"Use of {stats.size} entries, perplexity {stats.perplexity:.4g}")


def places(used: Sequence[int], i: int) -> int:
    """Where step i of the outline of ``used`` begins."""
    return i * len(used) // min(len(used), MOST_POINTS)
