"""Draws the charts of the docs from what benchmarks/results holds.

Run: python docs/make_charts.py
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from make_pictures import ACCENT, INK, PALE, STYLE, save
from matplotlib import pyplot as plt
from matplotlib.axes import Axes

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"
OTHERS = ("Faiss", "gzip", "bz2")
NUMBER = re.compile(r"-?\d+\.?\d*(?:e-?\d+)?")


def latest(name: str) -> str:
    """The newest results of a benchmark."""
    return sorted(RESULTS.glob(f"*-{name}.txt"))[-1].read_text()


def numbers(line: str) -> list[float]:
    """All numbers of a line, thousands with commas too."""
    return [float(found) for found in NUMBER.findall(line.replace(",", ""))]


def spoken_digits() -> None:
    """SI-SDR of spoken digits by bit rate, beside Opus."""
    ours = json.loads((RESULTS / "fsdd-codec.jsonl").read_text().splitlines()[-1])["stages"]
    below = latest("fsdd-codec").partition("\nOpus, whatever")[2].splitlines()[1:]
    opus = [row for row in map(numbers, below) if len(row) == 3 and row[0] <= 12]
    _, axis = plt.subplots(figsize=(4.6, 2.6))
    axis.plot(*zip(*(row[:2] for row in opus), strict=True), "o-", color=PALE, label="Opus")
    points = [(row["kbps"], row["si_sdr_db"]) for row in ours]
    axis.plot(*zip(*points, strict=True), "o-", color=ACCENT, label="spoken-digits, 1 to 8 stages")
    axis.set_xlabel("kbit/s, measured")
    axis.set_ylabel("SI-SDR, dB")
    axis.set_xlim(left=0)
    axis.legend(frameon=False, loc="upper left")
    save("spoken-digits-rates")


def bars(axis: Axes, rows: Sequence[tuple[str, float]], form: str) -> None:
    """Bars with their values, those of others pale."""
    places = range(len(rows))
    colors = [PALE if name.startswith(OTHERS) else ACCENT for name, _ in rows]
    axis.barh(places, [value for _, value in rows], color=colors)
    for place, (_, value) in enumerate(rows):
        axis.text(value, place, f" {value:{form}}", va="center", color=INK)
    axis.set_yticks(places, [name for name, _ in rows])
    axis.invert_yaxis()
    axis.set_xticks([])
    axis.spines["bottom"].set_visible(False)


def vector_search() -> None:
    """How often the nearest vector is found first by codes of equal bits."""
    parts = latest("vector-search").split("Codes of vectors beside Faiss, quality: ")[1:]
    figure, axes = plt.subplots(1, 2, figsize=(8, 2.4))
    for axis, part, title in zip(
        axes, parts, ("SIFT, 64 bits: recall@1", "LDA, 32 bits: recall@1"), strict=True
    ):
        lines = [line for line in part.splitlines() if len(numbers(line)) >= 7 and "  " in line]
        rows = [(line.split("  ")[0], numbers(line.split("  ", 1)[1])[4]) for line in lines]
        bars(axis, sorted(rows, key=lambda row: row[1]), ".3f")
        axis.set_title(title)
    figure.subplots_adjust(wspace=0.75)
    save("vector-search")


def texts() -> None:
    """What a lossless copy costs, beside gzip and bz2."""
    rows = [json.loads(line) for line in (RESULTS / "text-rates.jsonl").read_text().splitlines()]
    peers = {line.split("  ")[0]: numbers(line)[-1] for line in latest("text-rates").splitlines()
             if ": gzip" in line or ": bz2" in line}  # fmt: skip
    figure, axes = plt.subplots(1, 2, figsize=(8, 1.6))
    titles = {"tiny_shakespeare": "Tiny Shakespeare", "multi30k_en": "Multi30k"}
    for axis, (text, title) in zip(axes, titles.items(), strict=True):
        best = min(row["bits_per_dim_prior"] for row in rows if row["row"].startswith(text))
        shown = [("gzip", peers[f"{text}: gzip"]), ("bz2", peers[f"{text}: bz2"])]
        bars(axis, [*shown, ("codes and corrections", best)], ".2f")
        axis.set_title(f"{title}: bits per byte, without loss")
    figure.subplots_adjust(wspace=0.75)
    save("text-rates")


def main() -> None:
    """Draws all charts."""
    plt.switch_backend("Agg")
    plt.rcParams.update(STYLE)  # pyright: ignore[reportCallIssue, reportArgumentType]
    spoken_digits()
    vector_search()
    texts()


if __name__ == "__main__":
    main()
