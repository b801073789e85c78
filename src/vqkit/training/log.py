"""What a run says: running means, metrics.jsonl, a bar on a terminal or plain lines."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqkit import distributed
from vqkit.evaluation.codebook import CodebookStats
from vqkit.means import Mean
from vqkit.storage import write_text
from vqkit.training.checkpoint import room_for

METRICS = "metrics.jsonl"


class Meters:
    """Means and histograms over an interval, added on the device and read only when logged."""

    def __init__(self) -> None:
        self.groups: dict[tuple[str, ...], tuple[Tensor, Tensor]] = {}
        self.usage: dict[str, Tensor] = {}

    @torch.no_grad()
    def add(self, means: Mapping[str, Mean]) -> None:
        """Adds means; those that come together are kept together, for one addition in all."""
        if not means:
            return
        totals = torch.stack([mean.total.detach().double() for mean in means.values()])
        counts = torch.stack([mean.count for mean in means.values()])
        before = self.groups.get(tuple(means))
        if before is not None:
            totals, counts = totals + before[0], counts + before[1]
        self.groups[tuple(means)] = (totals, counts)

    @torch.no_grad()
    def count(self, usage: Mapping[str, Tensor]) -> None:
        """Adds to the histograms of codebooks. Each (K,) int64"""
        for name, counts in usage.items():
            before = self.usage.get(name)
            self.usage[name] = counts.clone() if before is None else before + counts

    def join(self) -> None:
        """Moves what all ranks added to rank 0; every rank must call it."""
        share = 1 if distributed.is_main() else 0
        for names, (totals, counts) in self.groups.items():
            totals, counts = distributed.all_reduce(totals), distributed.all_reduce(counts)
            self.groups[names] = (totals * share, counts * share)
        for name, counts in self.usage.items():
            self.usage[name] = distributed.all_reduce(counts) * share

    def means(self) -> dict[str, float]:
        """The values of all means that counted something."""
        values = {}
        for names, (totals, counts) in self.groups.items():
            pairs = zip(names, totals.tolist(), counts.tolist(), strict=True)
            values |= {name: total / count for name, total, count in pairs if count}
        return values

    def stats(self) -> dict[str, CodebookStats]:
        """The use of each codebook, by name."""
        return {name: CodebookStats(len(c), c.cpu()) for name, c in self.usage.items()}

    def clear(self) -> None:
        """Begins a new interval."""
        self.groups.clear()
        self.usage.clear()

    def tensors(self) -> dict[str, Tensor]:
        """All that was added, for a checkpoint."""
        saved = {f"usage/{name}": counts for name, counts in self.usage.items()}
        for names, (totals, counts) in self.groups.items():
            key = ",".join(names)
            saved |= {f"totals/{key}": totals, f"counts/{key}": counts}
        return saved

    def load(self, tensors: Mapping[str, Tensor], device: torch.device) -> None:
        """The inverse of ``tensors``; what was added on all ranks is then on rank 0."""
        self.clear()
        share = 1 if distributed.is_main() else 0
        for full, tensor in tensors.items():
            kind, _, key = full.partition("/")
            if kind == "usage":
                self.usage[key] = tensor.to(device) * share
            elif kind == "totals":
                counts = tensors[f"counts/{key}"]
                pair = (tensor.to(device) * share, counts.to(device) * share)
                self.groups[tuple(key.split(","))] = pair


def psnr(mse: float) -> float | None:
    """Peak signal-to-noise ratio in dB for values in [-1, 1]; None for a perfect copy."""
    return 10 * math.log10(4 / mse) if mse > 0 else None


def usage_summary(stats: Mapping[str, CodebookStats]) -> dict[str, list]:
    """What metrics.jsonl says of codebooks: one list element per codebook, coarsest level first."""
    if not stats:
        return {}
    each = list(stats.values())
    return {
        "perplexity": [s.perplexity for s in each],
        "usage": [s.usage for s in each],
        "kl_to_uniform_nats": [s.kl_to_uniform_nats for s in each],
        "dead": [s.dead for s in each],
        "num_vectors": [s.num_vectors for s in each],
    }


class MetricsFile:
    """metrics.jsonl: one JSON object per line, in the order of steps.

    Args:
        folder: The run folder; None writes nothing.
        step: The step that the run goes on from: later lines, of a run that was killed, are
            dropped, and written again when their steps are.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self.path = None if folder is None else folder / METRICS
        if self.path is not None and self.path.is_file():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines(True)
            kept = [line for line in lines if _step_of(line) <= step]
            if kept != lines:
                with room_for(str(self.path)):
                    write_text(self.path, "".join(kept))

    def write(self, values: Mapping[str, Any]) -> None:
        """Appends a line."""
        if self.path is not None:
            with room_for(str(self.path)), self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")


def _step_of(line: str) -> float:
    """The step of a line; infinite when the line was cut."""
    try:
        value = json.loads(line) if line.endswith("\n") else None
    except json.JSONDecodeError:
        return math.inf
    step = value.get("step") if isinstance(value, dict) else None
    return step if isinstance(step, int) else math.inf


class Screen:
    """What a person sees: nothing, plain lines, or a bar. Only rank 0 has one that shows.

    Args:
        how: "auto", "bar", "lines" or "none".
        total: Number of steps of the run.
    """

    seconds_between_lines = 10.0

    def __init__(self, how: str, total: int) -> None:
        self.how = how
        if how == "auto":
            self.how = "bar" if sys.stderr.isatty() else "lines"
        if not distributed.is_main():
            self.how = "none"
        self.total = total
        self.last_line = -math.inf
        self.bar: Any = None

    @contextmanager
    def open(self, step: int) -> Iterator[None]:
        """The time in which the bar is shown; ``step`` steps were taken before."""
        if self.how != "bar":
            yield
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        columns = (BarColumn(None), MofNCompleteColumn(), TimeRemainingColumn())
        columns = (*columns, TextColumn("{task.description}"))
        with Progress(*columns, console=Console(stderr=True), expand=True) as self.bar:
            self.task = self.bar.add_task("", total=self.total, completed=step)
            yield
        self.bar = None

    def advance(self, step: int) -> None:
        """Moves the bar; cheap enough for every step."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step)

    def say(self, line: str) -> None:
        """Shows a line of text above the bar."""
        if self.bar is not None:
            self.bar.console.print(line, markup=False, highlight=False)
        elif self.how != "none":
            print(line, file=sys.stderr, flush=True)

    def metrics(
        self, values: Mapping[str, Any], unit: str, seconds_left: float | None, *, last: bool
    ) -> None:
        """Shows a line of metrics.jsonl: on the bar, or now and then as a plain line."""
        text = summary(values, unit)
        if self.bar is not None:
            self.bar.update(self.task, description=text)
        elif self.how == "lines":
            now = time.monotonic()
            if last or now - self.last_line >= self.seconds_between_lines:
                self.last_line = now
                left = "" if seconds_left is None else f"  {duration(seconds_left)} left"
                self.say(f"step {values['step']}/{self.total}  {text}{left}")


def summary(values: Mapping[str, Any], unit: str) -> str:
    """The numbers worth a glance, in a line."""
    parts = [f"loss {values['loss']:.4f}"]
    if len(values["terms"]) > 1:
        parts += [f"{name} {value:.4f}" for name, value in values["terms"].items()]
    if values.get("psnr") is not None:
        parts.append(f"PSNR {values['psnr']:.2f} dB")
    if "perplexity" in values:
        parts.append(f"perplexity {_joined(values['perplexity'])}")
    if f"{unit}_per_s" in values:
        parts.append(f"{values[f'{unit}_per_s']:.0f} {unit}/s")
    return "  ".join(parts)


def _joined(values: Sequence[float]) -> str:
    return "/".join(f"{value:.0f}" for value in values)


def duration(seconds: float) -> str:
    """A length of time, such as 1:02:03 or 4:05."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def numbers(values: Mapping[str, Any], prefix: str = "") -> dict[str, float]:
    """The numbers of a line of metrics.jsonl by path, such as ``terms/commitment``."""
    found: dict[str, float] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            found |= numbers(value, f"{prefix}{name}/")
        elif isinstance(value, list):
            found |= numbers({str(i): v for i, v in enumerate(value)}, f"{prefix}{name}/")
        elif isinstance(value, int | float):
            found[f"{prefix}{name}"] = value
    return found
