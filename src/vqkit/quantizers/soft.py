"""What quantizers share whose training weighs all entries, not only the nearest."""

from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from vqkit import random
from vqkit.quantizers.base import real_rows
from vqkit.quantizers.chunks import in_chunks
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.gathering import joined_rows
from vqkit.quantizers.learned import LearnedQuantizer
from vqkit.quantizers.revival import DEAD_AFTER
from vqkit.quantizers.scores import SCORES_PER_CHUNK

SMALLEST_VARIANCE = 1e-16  # below it entries count as equal, or losses would overflow
Words = tuple[int, Tensor, Tensor]  # seed, step, and the number of each vector


@dataclass(frozen=True, slots=True)
class Weighed:
    """What the weights of all entries give for some vectors.

    Attributes:
        average: The entries' average by the weights with noise. (N, D)
        entropy: That of the weights without noise, in nats. (N,)
        gap: The mean squared distance by these weights, a mean over coordinates. (N,)
        indices: The entry of the largest weight with noise. (N,) int64
    """

    average: Tensor
    entropy: Tensor
    gap: Tensor
    indices: Tensor


class SoftQuantizer(LearnedQuantizer):
    """A codebook in which a vector has entry e with probability softmax(-precision |z - e|^2 / D).

    Args:
        dim: Length D of each vector.
        codebook: The entries; gradients move them.
        revive: Whether entries that nobody uses are replaced by vectors that fit badly.
        dead_after: Nobody uses an entry when it had no hit while uniform use would have given it
            so many.
        commit_in_forward: Whether each training forward ends with ``commit``.

    Attributes:
        log_precision: Logarithm of the precision times the entries' variance, trained: so it need
            not follow an encoder whose outputs grow or shrink. The precision starts as that of a
            Gaussian whose variance is the mean squared error of the first codebook. ()
    """

    def __init__(
        self,
        dim: int,
        codebook: Codebook,
        *,
        revive: bool = True,
        dead_after: float = DEAD_AFTER,
        commit_in_forward: bool = True,
    ) -> None:
        super().__init__(
            dim,
            codebook,
            "gradients",
            revive=revive,
            dead_after=dead_after,
            commit_in_forward=commit_in_forward,
        )
        self.log_precision = nn.Parameter(torch.zeros(()))

    def prepared(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        was_started = self.codebook.is_initialized
        z_e = super().prepared(z_e, mask)
        if self.codebook.is_initialized and not was_started:
            self.start_precision(joined_rows(z_e, mask))
        return z_e

    def initialize(
        self, z_e: Tensor, mask: Tensor | None = None, *, seed: int, keep_started: bool = False
    ) -> None:
        was_kept = keep_started and self.codebook.is_initialized
        super().initialize(z_e, mask, seed=seed, keep_started=keep_started)
        if not was_kept:
            self.start_precision(self.codebook.project(real_rows(z_e, mask)))

    @torch.no_grad()
    def start_precision(self, z: Tensor) -> None:
        """Sets the precision by the error of projected vectors (N, D), the same on all ranks."""
        error = (z - self.codebook.lookup(self.codebook.nearest(z))).square().mean()
        spread, least = z.var(0, correction=0).mean(), smallest_variance(z)
        # D coordinates count in a Gaussian's exponent, and an error of 0 has no precision.
        floor = torch.where(spread > least, 1e-4 * spread, least)
        precision = self.dim / (2 * torch.maximum(error, floor))
        self.log_precision.copy_((precision * variance(self.codebook.table)).log())

    def precision(self, table: Tensor) -> Tensor:
        """What squared distances are multiplied by where these are the entries. (K, D) -> ()"""
        return self.log_precision.exp() / variance(table)


def variance(table: Tensor) -> Tensor:
    """The variance of entries, a mean over coordinates, without a gradient. (K, D) -> ()"""
    table = table.detach()
    return table.var(0, correction=0).mean().maximum(smallest_variance(table))


def smallest_variance(rows: Tensor) -> Tensor:
    """What equal rows may have by rounding of what they are made by, at least. (N, D) -> ()"""
    rounding = (4 * torch.finfo(rows.dtype).eps) ** 2 * rows.square().mean()
    return rounding.clamp(min=SMALLEST_VARIANCE)


def weigh(
    z: Tensor,
    table: Tensor,
    precision: Tensor,
    temperature: Tensor | float = 1.0,
    words: Words | None = None,
    values: Tensor | None = None,
) -> Weighed:
    """Weighs all entries for each vector, a few vectors at a time.

    Memory grows with N D + K D: the weights are made anew in the backward pass.

    Args:
        z: Vectors. (N, D)
        table: Entries. (K, D)
        precision: What squared distances, means over coordinates, are multiplied by. ()
        temperature: What the logits are divided by once noise was added. ()
        words: What the Gumbel noise depends on; None for none.
        values: What is averaged; the table when None. (K, D)
    """
    values = table if values is None else values
    with torch.autocast(z.device.type, enabled=False):
        center = table.detach().mean(0)  # far from the origin products lose digits
        # Once for all: next to the scores of a few vectors a table is large.
        points, centred = z - center, table - center
        norms = centred.square().sum(-1)
    others = centred, norms, values, precision
    if words is None:
        rows, function = (points,), partial(_weigh, temperature=temperature)
    else:
        seed, step, numbers = words
        rows = points, numbers
        function = partial(_weigh_with_noise, seed=seed, step=step, temperature=temperature)
    num = max(1, SCORES_PER_CHUNK // len(table))
    return Weighed(*in_chunks(function, rows, others, num))


@torch.library.custom_op("vqkit::gumbel_noise", mutates_args=())
def gumbel_noise(seed: int, step: Tensor, numbers: Tensor, size: int) -> Tensor:
    """Gumbel noise for all entries of each vector, as an operator: compilers call it as it is.

    Traced into, it crashes what inductor makes of the weights (torch 2.13, on CPUs).

    Args:
        seed: What all noise depends on.
        step: () int64
        numbers: The number of each vector among all of the step. (N,) int64
        size: Number of entries K.

    Returns:
        (N, K) float64
    """
    draws = random.uniform_rows(seed, step, numbers, size=size)
    return draws.log_().neg_().log_().neg_()


@gumbel_noise.register_fake
def _(seed: int, step: Tensor, numbers: Tensor, size: int) -> Tensor:
    return numbers.new_empty(len(numbers), size, dtype=torch.float64)


def _weigh_with_noise(
    points: Tensor,
    numbers: Tensor,
    *others: Tensor,
    seed: int,
    step: Tensor,
    temperature: Tensor | float,
) -> tuple[Tensor, ...]:
    """``_weigh`` with the noise of vectors of these numbers. (N, D), (N,)"""
    noise = gumbel_noise(seed, step, numbers, len(others[0]))
    return _weigh(points, *others, temperature=temperature, noise=noise)


def _weigh(
    points: Tensor,
    centred: Tensor,
    norms: Tensor,
    values: Tensor,
    precision: Tensor,
    *,
    temperature: Tensor | float,
    noise: Tensor | None = None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What ``weigh`` does, all vectors at once: centred ones, and entries with their squares."""
    with torch.autocast(points.device.type, enabled=False):
        squares = points.square().sum(-1, keepdim=True) + norms
        gaps = (squares - 2 * (points @ centred.T)).clamp(min=0) / points.shape[-1]
        logits = -precision * gaps
        shares = logits.softmax(-1)
        entropy = -(shares * logits.log_softmax(-1)).sum(-1)
        noisy = logits if noise is None else logits + noise.to(logits.dtype)
        weights = (noisy / temperature).softmax(-1)
        return weights @ values, entropy, (shares * gaps).sum(-1), noisy.detach().argmax(-1)
