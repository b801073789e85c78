"""The index pass: reads every item once, in threads, and keeps what was found."""

import errno
import os
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path

from vqkit.data.index import Index
from vqkit.data.record import Source
from vqkit.distributed import broadcast_object, is_distributed, is_main

QUIET_S = 1.0  # shorter work shows no bar
BEAT_S = 30.0  # waiting ranks hear from the main one so often, well within a collective's timeout
CHUNK = 16  # items that a thread takes at once
SHORTAGE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # of this process, not a fault of the file

Measure = Callable[[int], tuple[int, ...]]


def build_index(source: Source, measure: Measure, *, progress: bool = True) -> Index:
    """Reads every item once.

    Args:
        source: What is read.
        measure: Reads and decodes the item with a number, and gives its shape; called in threads.
            A ValueError or OSError says why the item is unreadable.
        progress: Whether long work shows a bar on a terminal.
    """
    fingerprint = source.fingerprint
    unreadable: dict[int, str] = {}
    shapes: list[tuple[int, ...]] = []
    known: dict[tuple[int, ...], tuple[int, ...]] = {}
    with _bar(len(source), progress) as advance:
        for index, found in enumerate(_in_turn(len(source), measure)):
            advance()
            if isinstance(found, str):
                unreadable[index] = found
                found = ()
            shapes.append(known.setdefault(found, found))  # one tuple for all that are equal
    return Index(len(source), fingerprint, unreadable, tuple(shapes))


def open_index(
    source: Source,
    measure: Measure,
    *,
    file: Path | None,
    where: str,
    strict: bool = False,
    progress: bool = True,
) -> Index:
    """The index that a run keeps, checked against the source; it is made where there is none.

    The main rank does the work, and all ranks get the result.

    Args:
        source: What is indexed.
        measure: As for ``build_index``. Of a source that knows the shape of its items, only the
            first is measured.
        file: Where the index is kept; None keeps none.
        where: The name of the data, for messages.
        strict: Whether one unreadable item is an error.
        progress: Whether long work shows a bar on a terminal.

    Raises:
        ValueError: If the data changed, nothing is readable, or ``strict`` and not all is.
    """

    def work() -> Index:
        if file is not None and file.exists():
            index = Index.load(file)
            index.verify(source, where)
            return index
        if source.item_shape is None:
            index = build_index(source, measure, progress=progress)
        else:
            index = _index_array(source, measure)
        _check_readable(source, index, strict)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            index.save(file, source)
        return index

    return _on_main(work)


def _index_array(source: Source, measure: Measure) -> Index:
    """The index of items that are all alike."""
    try:
        shape = measure(0)
    except ValueError as error:
        raise ValueError(f"{source.describe(0)} {error}") from None
    return Index(len(source), source.fingerprint, {}, (shape,) * len(source))


def _check_readable(source: Source, index: Index, strict: bool) -> None:
    bad = len(index.unreadable)
    if bad < index.num_items and not (bad and strict):
        return
    first = index.lines(source)[0]
    count = f"{bad} of {index.num_items} items cannot be read"
    fix = "" if bad == index.num_items else ", or set data.strict=false to leave such items out"
    raise ValueError(f"{count}; the first: {first}{fix}")


def _in_turn(count: int, measure: Measure) -> Iterator[tuple[int, ...] | str]:
    """The shape of each item, or why it has none, in order."""

    def look(chunk: range) -> list[tuple[int, ...] | str]:
        return [_look(index, measure) for index in chunk]

    num_threads = os.cpu_count() or 1
    window = 4 * num_threads * CHUNK
    threads = ThreadPoolExecutor(num_threads)
    try:
        # Decoders warn of oddities; what matters becomes a reason.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for first in range(0, count, window):
                last = min(first + window, count)
                chunks = [range(i, min(i + CHUNK, last)) for i in range(first, last, CHUNK)]
                for found in threads.map(look, chunks):
                    yield from found
    finally:
        threads.shutdown(cancel_futures=True)


def _look(index: int, measure: Measure) -> tuple[int, ...] | str:
    try:
        return measure(index)
    except OSError as error:
        if error.errno in SHORTAGE:
            raise
        return f"cannot be read ({error.strerror or error}); make it readable or remove it"
    except ValueError as error:
        return " ".join(str(error).split())


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
        late = time.monotonic() > began + QUIET_S
        if late and wanted and console.is_terminal and not bar.live.is_started:
            bar.start()

    try:
        yield advance
    finally:
        if bar.live.is_started:  # or it would print an empty line
            bar.stop()


def _on_main(work: Callable[[], Index]) -> Index:
    """The main rank's result, on all ranks; they wait as long as it takes."""
    if not is_distributed():
        return work()
    with ThreadPoolExecutor(1) as thread:
        future = thread.submit(work) if is_main() else None
        outcome: Index | str | None = None
        while outcome is None:
            outcome = broadcast_object(None if future is None else _outcome(future))
    if isinstance(outcome, str):
        raise ValueError(outcome)
    return outcome


def _outcome(future: "Future[Index]") -> Index | str | None:
    """The result, or the message of its error, or None when neither is there yet."""
    if not wait([future], BEAT_S).done:
        return None
    try:
        return future.result()
    except (ValueError, OSError) as error:
        return str(error)
