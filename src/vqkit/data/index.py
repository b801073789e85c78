"""The index pass: reads every item once, and remembers what was found."""

import os
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vqkit.data.record import Source
from vqkit.storage import read_json, write_json

FORMAT = 1
QUIET_SECONDS = 1.0  # shorter work shows no bar

Measure = Callable[[Any], tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Index:
    """What a pass over a source found.

    Attributes:
        num_items: Number of items of the source, readable or not.
        fingerprint: Of the source.
        unreadable: Reason by number of item.
        shapes: Shape of each item in order; that of an unreadable one is empty.
    """

    num_items: int
    fingerprint: str
    unreadable: Mapping[int, str]
    shapes: tuple[tuple[int, ...], ...]

    @property
    def readable(self) -> list[int]:
        """Numbers of the items that can be read."""
        return [index for index in range(self.num_items) if index not in self.unreadable]

    def save(self, path: Path) -> None:
        """Writes the index as JSON."""
        kinds = sorted(set(self.shapes))
        numbers = {shape: number for number, shape in enumerate(kinds)}
        runs: list[list[int]] = []
        for shape in self.shapes:
            if runs and runs[-1][0] == numbers[shape]:
                runs[-1][1] += 1
            else:
                runs.append([numbers[shape], 1])
        value = {
            "format": FORMAT,
            "num_items": self.num_items,
            "fingerprint": self.fingerprint,
            "unreadable": {str(index): reason for index, reason in self.unreadable.items()},
            "shapes": [" x ".join(map(str, shape)) for shape in kinds],
            "runs": " ".join(f"{number}*{length}" for number, length in runs),
        }
        write_json(path, value)

    @classmethod
    def load(cls, path: Path) -> "Index":
        """Reads an index.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If it is damaged.
        """
        value = read_json(path)
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"format {value['format']}")
            kinds = [tuple(int(n) for n in text.split(" x ") if n) for text in value["shapes"]]
            shapes: list[tuple[int, ...]] = []
            for run in value["runs"].split():
                number, length = run.split("*")
                shapes += [kinds[int(number)]] * int(length)
            unreadable = {int(index): str(why) for index, why in value["unreadable"].items()}
            return cls(value["num_items"], value["fingerprint"], unreadable, tuple(shapes))
        except (KeyError, IndexError, TypeError, AttributeError, ValueError) as error:
            raise ValueError(
                f"{path} is damaged ({error}); remove it to read the data anew"
            ) from None

    def verify(self, source: Source, where: str = "the data") -> None:
        """Checks that the source is still what was indexed.

        Raises:
            ValueError: If the number of items or the fingerprint differs.
        """
        fix = "restore it, or start a new run"
        if len(source) != self.num_items:
            raise ValueError(
                f"data changed since the run began: {where} had {self.num_items} items and has "
                f"{len(source)}; {fix}"
            )
        if source.fingerprint != self.fingerprint:
            raise ValueError(
                f"data changed since the run began: names, sizes or contents of {where} differ; "
                f"{fix}"
            )


def build_index(source: Source, measure: Measure, *, progress: bool = True) -> Index:
    """Reads every item once, in threads.

    Args:
        source: What is read. One that knows the shape of its items is not read at all.
        measure: Decodes the value of a record and gives its shape; ValueError or OSError says why
            it cannot.
        progress: Whether long work shows a bar on a terminal.
    """
    if source.item_shape is not None:
        shapes = (source.item_shape,) * len(source)
        return Index(len(source), source.fingerprint, {}, shapes)
    unreadable: dict[int, str] = {}
    shapes: list[tuple[int, ...]] = []
    fingerprint = source.fingerprint
    with ThreadPoolExecutor(os.cpu_count()) as threads, _bar(len(source), progress) as advance:
        for index, found in enumerate(_in_turn(threads, source, measure)):
            advance()
            shapes.append(found if isinstance(found, tuple) else ())
            if isinstance(found, str):
                unreadable[index] = found
    return Index(len(source), fingerprint, unreadable, tuple(shapes))


def _in_turn(
    threads: ThreadPoolExecutor, source: Source, measure: Measure
) -> Iterator[tuple[int, ...] | str]:
    """The shape of each item, or why it has none, in order."""

    def look(index: int) -> tuple[int, ...] | str:
        try:
            return measure(source[index].value)
        except (ValueError, OSError) as error:
            return " ".join(str(error).split()) or type(error).__name__

    step = 256  # so that neither results nor decoded items pile up
    for first in range(0, len(source), step):
        yield from threads.map(look, range(first, min(first + step, len(source))))


@contextmanager
def _bar(total: int, wanted: bool) -> Iterator[Callable[[], None]]:
    """A function to call after each item, which draws a bar once the work has lasted a while."""
    from rich.console import Console
    from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeRemainingColumn())
    bar = Progress(*columns, console=console, transient=True)
    task = bar.add_task("Reading every item once", total=total)
    began = time.monotonic()

    def advance() -> None:
        bar.advance(task)
        late = time.monotonic() - began > QUIET_SECONDS
        if late and wanted and console.is_terminal and not bar.live.is_started:
            bar.start()

    try:
        yield advance
    finally:
        bar.stop()
