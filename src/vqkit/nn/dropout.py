"""Dropout that is a pure function of the step and the item, whichever process computes it."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqkit.random import hash_tensor, uniform_rows

LANES, LANE_BITS = 4, 16  # one hash of 64 bits decides over four elements


@dataclass
class _Noise:
    seed: int
    step: int
    positions: Tensor
    num_calls: int = 0

    def next_call(self, num: int) -> int:
        """The number of this call, for so many items."""
        if len(self.positions) != num:
            counts = f"{len(self.positions)} positions for {num} items"
            raise ValueError(f"noise has {counts}; give one position per item")
        self.num_calls += 1
        return self.num_calls - 1


_noise: ContextVar[_Noise | None] = ContextVar("noise", default=None)
_quiet: ContextVar[bool] = ContextVar("quiet", default=False)


@contextmanager
def noise(seed: int, step: int, positions: Tensor) -> Iterator[None]:
    """Says what the dropout inside depends on; to be entered anew for every forward pass.

    Args:
        seed: Of the run.
        step: Number of the optimizer step.
        positions: Where each item stands in the global batch of the step. (B,) int64
    """
    token = _noise.set(_Noise(seed, step, positions))
    try:
        yield
    finally:
        _noise.reset(token)


@contextmanager
def no_dropout() -> Iterator[None]:
    """Inside, stateless dropout does nothing, in training mode too."""
    token = _quiet.set(True)
    try:
        yield
    finally:
        _quiet.reset(token)


def noise_uniforms(num: int, size: int) -> Tensor | None:
    """Uniform numbers of this call for each item, which training mode draws other things by.

    They are what ``StatelessDropout`` decides by: a pure function of (seed, step, position of the
    item in the global batch, number of the call).

    Args:
        num: Number of items B.
        size: How many numbers M each has.

    Returns:
        (B, M) float64; None outside of ``noise`` and inside of ``no_dropout``.

    Raises:
        ValueError: If ``noise`` was given another number of positions.
    """
    now = _noise.get()
    if now is None or _quiet.get():
        return None
    call = now.next_call(num)
    return uniform_rows(now.seed, now.step, now.positions, call, size=size)


def check_noise() -> None:
    """Raises RuntimeError outside of ``noise`` and ``no_dropout``: for what training cannot do
    without."""
    if _noise.get() is None and not _quiet.get():
        raise RuntimeError(
            "training mode needs to know the step; call the model inside "
            "`with noise(seed, step, positions):`, or switch it to eval()"
        )


class StatelessDropout(nn.Module):
    """Zeroes elements with probability p and divides the others by 1 - p, in training mode.

    Dropout: A Simple Way to Prevent Neural Networks from Overfitting, section 4,
    https://jmlr.org/papers/v15/srivastava14a.html. Whether an element falls is a hash of (seed,
    step, position of the item in the global batch, number of the call, element), see ``noise``:
    half batches drop what the whole batch drops, and a resumed run what the killed one did.

    Args:
        p: Probability of dropping, at least 0 and less than 1; rounded to a multiple of 2^-16.

    Raises:
        ValueError: If ``p`` is out of range.
    """

    def __init__(self, p: float) -> None:
        super().__init__()
        if not 0 <= p < 1:
            raise ValueError(f"p is {p}; give a probability of at least 0 and less than 1")
        self.p = p
        self.threshold = min(round(p * 2**LANE_BITS), 2**LANE_BITS - 1)

    def extra_repr(self) -> str:
        return f"p={self.p}"

    def forward(self, x: Tensor) -> Tensor:
        """Drops elements of items.

        Args:
            x: Items along the first axis. (B, ...)

        Returns:
            As ``x``. (B, ...)

        Raises:
            RuntimeError: If the mode is training and no ``noise`` is entered.
            ValueError: If ``noise`` was given another number of positions.
        """
        if not self.training or self.threshold == 0 or _quiet.get():
            return x
        kept = self.kept(x).to(x.dtype)
        return x * kept.div_(1 - self.threshold / 2**LANE_BITS)

    def kept(self, x: Tensor) -> Tensor:
        """Which elements of ``x`` stay in this call. (B, ...) bool"""
        now = _noise.get()
        if now is None:
            raise RuntimeError(
                "dropout in training mode needs to know the step; call the model inside "
                "`with noise(seed, step, positions):`, or switch it to eval()"
            )
        call = now.next_call(len(x))
        size = x[0].numel() if len(x) else 0
        elements = torch.arange(-(-size // LANES), device=x.device)
        positions = now.positions.to(x.device).unsqueeze(-1)
        bits = hash_tensor(now.seed, now.step, positions, call, elements)
        lanes = bits.view(torch.int16)[:, :size]
        return (lanes >= self.threshold - 2 ** (LANE_BITS - 1)).reshape(x.shape)
