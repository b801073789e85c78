"""Ends a run between two steps: by a signal, or because a number is not finite."""

import math
import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

import torch
from torch import Tensor

from vqkit import distributed

SIGNALS = (signal.SIGINT, signal.SIGTERM)
NEVER = 2**62
GRADIENT = "gradient"


class Stopped(SystemExit):
    """A run was asked to stop, and did so cleanly after a step.

    Attributes:
        step: Number of optimizer steps taken.
        signal: Number of the signal that asked for it.
        code: Exit code, as a shell expects it: 130 after Ctrl-C, 143 after SIGTERM.
    """

    def __init__(self, step: int, number: int, message: str) -> None:
        super().__init__(128 + number)
        self.step = step
        self.signal = number
        self.message = message

    def __str__(self) -> str:
        return self.message


class NotFiniteError(FloatingPointError):
    """A loss or a gradient is NaN or infinite.

    Attributes:
        step: The step, counted from 1, in which it first was.
        terms: Names of what was not finite.
    """

    def __init__(self, step: int, terms: tuple[str, ...], last_good: str) -> None:
        self.step = step
        self.terms = terms
        super().__init__(
            f"step {step}: {', '.join(terms)} {'is' if len(terms) == 1 else 'are'} not finite; "
            f"{last_good}; lower train.learning_rate or train.clip_norm, or look at the data of "
            "this step"
        )


class StopSignal:
    """Remembers that SIGINT or SIGTERM came, instead of dying of it; a second one kills."""

    def __init__(self) -> None:
        self.number = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """The time in which signals are remembered; the handlers before are put back."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}
        for number in SIGNALS:
            signal.signal(number, self._remember)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number:
            raise KeyboardInterrupt
        self.number = number


class Watch:
    """Finds the first step at which a number was not finite, without reading it at every step.

    Args:
        device: Where the numbers are.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.names: tuple[str, ...] = ()
        self.first = torch.zeros(0, dtype=torch.int64, device=device)
        self.known_good = True

    @torch.no_grad()
    def see(self, step: int, values: Mapping[str, Tensor]) -> None:
        """Looks at numbers, the gradient's norm last; the same names in every step. Each ()"""
        if not self.names:
            self.names = tuple(values)
            self.first = torch.full((len(values),), NEVER, device=self.device)
        if self.device.type == "cpu" and all(math.isfinite(v.item()) for v in values.values()):
            return
        self.known_good = False
        finite = torch.stack([value.detach().double() for value in values.values()]).isfinite()
        self.first = torch.where(finite, self.first, self.first.clamp(max=step))

    def agree(self, stop: StopSignal) -> tuple[int, int | None, tuple[str, ...]]:
        """What all ranks know together; every rank must call it.

        Returns:
            The number of the signal that some rank got, or 0; the first step at which something
            was not finite, or None; and the names of what was not.
        """
        if self.known_good and not distributed.is_distributed():
            return stop.number, None, ()
        mine = torch.cat([torch.tensor([stop.number], device=self.device), self.first])
        table = distributed.all_gather(mine)
        number, *first = [*table[:, :1].amax(0).tolist(), *table[:, 1:].amin(0).tolist()]
        step = min(first, default=NEVER)
        if step == NEVER:
            return number, None, ()
        bad = tuple(name for name, at in zip(self.names, first, strict=True) if at == step)
        # A loss that is not finite makes the gradient so: the loss is the one to name.
        return number, step, bad[:-1] if len(bad) > 1 and bad[-1] == GRADIENT else bad
