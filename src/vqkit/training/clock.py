"""Time spent on steps, apart from time spent on evaluation and checkpoints."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class Clock:
    """Measures a run.

    Args:
        before: Seconds that the run took before it was resumed.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.start = time.monotonic() - before
        self.interval()

    def interval(self) -> None:
        """Begins an interval."""
        self.mark = time.monotonic()
        self.steps = 0

    def tick(self) -> None:
        """A step was taken."""
        self.steps += 1

    @contextmanager
    def pause(self) -> Iterator[None]:
        """A time that does not count for the speed."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self.mark += time.monotonic() - begin

    def elapsed(self) -> float:
        """Seconds since the run began, all pauses included, time between calls excluded."""
        return time.monotonic() - self.start

    def steps_per_s(self) -> float:
        """Steps per second in the interval."""
        return self.steps / max(time.monotonic() - self.mark, 1e-9)
