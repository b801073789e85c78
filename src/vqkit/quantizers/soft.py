"""What quantizers share whose training weighs all entries, not only the nearest."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from vqkit import random
from vqkit.quantizers.base import real_rows
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.gathering import joined_rows
from vqkit.quantizers.learned import LearnedQuantizer
from vqkit.quantizers.revival import DEAD_AFTER
from vqkit.quantizers.scores import SCORES_PER_CHUNK

SMALLEST_VARIANCE = 1e-12
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
        log_precision: Logarithm of the precision, trained. It starts as that of a Gaussian whose
            variance is the mean squared error of the first codebook. ()
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

    def initialize(self, z_e: Tensor, mask: Tensor | None = None, *, seed: int) -> None:
        super().initialize(z_e, mask, seed=seed)
        self.start_precision(self.codebook.project(real_rows(z_e, mask)))

    @torch.no_grad()
    def start_precision(self, z: Tensor) -> None:
        """Sets the precision by the error of projected vectors (N, D), the same on all ranks."""
        error = (z - self.codebook.lookup(self.codebook.nearest(z))).square().mean()
        spread = z.var(0, correction=0).mean()
        # D coordinates count in a Gaussian's exponent, and an error of 0 has no precision.
        floor = 1e-4 * spread + SMALLEST_VARIANCE
        self.log_precision.copy_((self.dim / (2 * torch.maximum(error, floor))).log())


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
    num = max(1, SCORES_PER_CHUNK // len(table))
    with torch.autocast(z.device.type, enabled=False):
        center = table.detach().mean(0)  # far from the origin products lose digits
        # Once for all: next to the scores of a few vectors a table is large.
        points, centred = z - center, table - center
        norms = centred.square().sum(-1)
    given = points, centred, norms, values, precision
    if len(z) > num and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        return Weighed(*_InChunks.apply(*given, temperature, words, num))  # pyright: ignore
    parts = []
    for first in range(0, max(1, len(z)), num):
        chunk = _chunk(given, words, slice(first, first + num))
        arguments: tuple[Any, ...] = (*chunk, temperature)
        if torch.is_grad_enabled():
            # No random number is torch's, so their state need not be put back.
            parts.append(
                checkpoint(_weigh, *arguments, use_reentrant=False, preserve_rng_state=False)
            )
        else:
            parts.append(_weigh(*arguments))
    return Weighed(*(_joined([part[place] for part in parts]) for place in range(4)))


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Several chunks as one tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


class _InChunks(torch.autograd.Function):
    """What ``checkpoint`` would do chunk after chunk, with nothing kept of any.

    Small tensors that outlive a chunk come to lie where its large ones were, which then find no
    place there again: with thousands of chunks, gigabytes of holes.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        *given, temperature, words, num = arguments
        ctx.save_for_backward(*given)
        ctx.rest = temperature, words, num
        points, *_, values, _ = given
        size = len(points)
        average, entropy = points.new_empty(size, values.shape[1]), points.new_empty(size)
        indices = torch.empty(size, dtype=torch.int64, device=points.device)
        found = average, entropy, torch.empty_like(entropy), indices
        for first in range(0, size, num):
            rows = slice(first, first + num)
            some: tuple[Any, ...] = (*_chunk(given, words, rows), temperature)
            for whole, part in zip(found, _weigh(*some), strict=True):
                whole[rows] = part
        ctx.mark_non_differentiable(indices)
        ctx.set_materialize_grads(False)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore
        given, (temperature, words, num) = ctx.saved_tensors, ctx.rest
        needed = ctx.needs_input_grad[: len(given)]
        totals = [
            torch.zeros_like(x) if need else None for x, need in zip(given, needed, strict=True)
        ]
        for first in range(0, len(given[0]), num):
            rows = slice(first, first + num)
            *leaves, words_of_rows, numbers = _chunk(given, words, rows)
            leaves = [x.detach().requires_grad_(n) for x, n in zip(leaves, needed, strict=True)]
            some: tuple[Any, ...] = (*leaves, words_of_rows, numbers, temperature)
            with torch.enable_grad():
                parts = _weigh(*some)
            pairs = [(p, g[rows]) for p, g in zip(parts, gradients, strict=True) if g is not None]
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            outputs, upstream = zip(*pairs, strict=True)
            found = iter(torch.autograd.grad(outputs, wanted, upstream, allow_unused=True))
            for place, total in enumerate(totals):
                if total is not None and (part := next(found)) is not None:
                    (total[rows] if place == 0 else total).add_(part)
        return *totals, None, None, None


def _chunk(given: Sequence[Tensor], words: Words | None, rows: slice) -> tuple[Any, ...]:
    """What ``_weigh`` is given for some vectors, but for the temperature."""
    points, *others = given
    return points[rows], *others, words, None if words is None else words[2][rows]


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


def _weigh(
    points: Tensor,
    centred: Tensor,
    norms: Tensor,
    values: Tensor,
    precision: Tensor,
    words: Words | None,
    numbers: Tensor | None,
    temperature: Tensor | float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """What ``weigh`` does, all vectors at once: centred ones, and entries with their squares."""
    with torch.autocast(points.device.type, enabled=False):
        squares = points.square().sum(-1, keepdim=True) + norms
        gaps = (squares - 2 * (points @ centred.T)).clamp(min=0) / points.shape[-1]
        logits = -precision * gaps
        shares = logits.softmax(-1)
        entropy = -(shares * logits.log_softmax(-1)).sum(-1)
        noisy = logits
        if words is not None and numbers is not None:
            noise = gumbel_noise(words[0], words[1], numbers, len(centred))
            noisy = logits + noise.to(logits.dtype)
        weights = (noisy / temperature).softmax(-1)
        return weights @ values, entropy, (shares * gaps).sum(-1), noisy.detach().argmax(-1)
