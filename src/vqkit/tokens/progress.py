"""A bar for long work, on standard error."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from vqkit.distributed import is_main


@contextmanager
def advancing(what: str, total: int, *, show: bool) -> Iterator[Callable[[int], None]]:
    """A bar that is moved by calling what this gives; only rank 0 shows one.

    Args:
        what: What is done, in a word.
        total: Number of items to do.
        show: Whether to show it.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    hidden = not (show and is_main() and console.is_terminal)  # elsewhere it prints empty lines
    with Progress(*columns, console=console, transient=True, disable=hidden) as bar:
        task = bar.add_task(what, total=total)
        yield lambda num: bar.advance(task, num)
