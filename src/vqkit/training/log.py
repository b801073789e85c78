"""What a run says: metrics.jsonl, and a bar on a terminal or plain lines."""

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vqkit import distributed
from vqkit.storage import write_text
from vqkit.training.checkpoint import room_for

METRICS = "metrics.jsonl"
BAR = 20  # characters


class MetricsFile:
    """metrics.jsonl: one JSON object per line, in the order of steps; rank 0 writes it.

    Args:
        folder: The run folder; None writes nothing.
        step: The step that the run goes on from: lines of later steps, of a run that was killed,
            are dropped, and written again when their steps are taken again.
    """

    def __init__(self, folder: Path | None, step: int) -> None:
        self.path = folder / METRICS if folder is not None and distributed.is_main() else None
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
    """What a person sees: nothing, plain lines, or a bar. Only rank 0 shows anything.

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

        columns = (MofNCompleteColumn(), BarColumn(BAR), TimeRemainingColumn())
        text = TextColumn("{task.description}", markup=False)
        try:
            with Progress(*columns, text, console=Console(stderr=True)) as self.bar:
                self.task = self.bar.add_task("", total=self.total, completed=step)
                yield
        finally:
            self.bar = None

    def advance(self, step: int) -> None:
        """Moves the bar; cheap enough for every step."""
        if self.bar is not None:
            self.bar.update(self.task, completed=step)

    def say(self, line: str) -> None:
        """Shows a line of text, above the bar if there is one."""
        if self.bar is not None:
            wrapped = "\n".join(wrap(line, self.bar.console.width))
            self.bar.console.print(wrapped, markup=False, highlight=False)
        elif self.how != "none":
            print(line, file=sys.stderr, flush=True)

    def metrics(
        self, values: Mapping[str, Any], unit: str, seconds_left: float, *, last: bool
    ) -> None:
        """Shows a line of metrics.jsonl: beside the bar, or now and then as a plain line."""
        text = summary(values, unit)
        if self.bar is not None:
            beside = len(f"{self.total}/{self.total} ") + BAR + len(" 0:00:00 ")
            room = self.bar.console.width - beside
            self.bar.update(self.task, description=summary(values, unit, room))
        elif self.how == "lines":
            now = time.monotonic()
            if last or now - self.last_line >= self.seconds_between_lines:
                self.last_line = now
                left = "" if last else f"  {duration(seconds_left)} left"
                self.say(f"step {values['step']}/{self.total}  {text}{left}")


def summary(values: Mapping[str, Any], unit: str, room: float = math.inf) -> str:
    """The numbers worth a glance, in a line; where room is short, those worth most.

    Args:
        values: A line of metrics.jsonl.
        unit: What the items are called.
        room: Characters that the line may have.
    """
    parts = {"loss": f"loss {values['loss']:.4f}"}
    if len(values["terms"]) > 1:
        parts |= {f"terms/{name}": f"{name} {x:.4f}" for name, x in values["terms"].items()}
    if values.get("psnr") is not None:
        parts["psnr"] = f"PSNR {values['psnr']:.2f} dB"
    if "accuracy" in values:
        parts["accuracy"] = f"{values['accuracy']:.2%} right"
    if "bits_per_dim" in values:
        parts["bits"] = f"{values['bits_per_dim']:.3f} bits/dim"
    if "perplexity" in values:
        parts["perplexity"] = "perplexity " + "/".join(f"{x:.0f}" for x in values["perplexity"])
    if f"{unit}_per_s" in values:
        parts["speed"] = f"{values[f'{unit}_per_s']:.0f} {unit}/s"
    best = ("loss", "psnr", "accuracy", "bits", "perplexity", "speed")
    first = [name for name in best if name in parts]
    kept: set[str] = set()
    for name in dict.fromkeys([*first, *parts]):
        if len("  ".join(text for key, text in parts.items() if key in {*kept, name})) <= room:
            kept.add(name)
    return "  ".join(text for key, text in parts.items() if key in kept)


def wrap(line: str, width: int) -> list[str]:
    """A line in several that are no wider, parted where it has two spaces."""
    lines: list[str] = []
    for part in line.split("  "):
        if lines and len(lines[-1]) + 2 + len(part) <= width:
            lines[-1] += f"  {part}"
        else:
            lines.append(f"  {part}" if lines else part)
    return lines


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
