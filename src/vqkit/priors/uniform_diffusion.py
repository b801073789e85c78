"""Uniform-noise diffusion: integers are replaced at random, and a network tells the true ones."""

import itertools
import math
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field, ValidationInfo, field_validator
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.codes import LevelSpec
from vqkit.nn.transformer import INIT_STD
from vqkit.priors.conditioner import Conditioned
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.denoiser import DenoiserSize
from vqkit.priors.diffusion import DiffusionPrior, Hints
from vqkit.priors.known import Known
from vqkit.priors.lengths import Lengths
from vqkit.priors.noise import Noise
from vqkit.priors.replacing import Jump, signal
from vqkit.priors.sampling import Decoding
from vqkit.schema import STRICT

START_STREAM, KNOWN_STREAM, CANDIDATE_STREAM, JUMP_STREAM = -2, -3, -4, -5
"""The words that keep the numbers of what is drawn apart."""
MOST_STATES = 2**10
"""The most states of an item that ``exact_bound`` goes through."""
FREQUENCIES = 64


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UniformDiffusionConfig(DenoiserSize):
    """A Transformer that tells true integers from those that stand there instead."""

    type: Literal["uniform_diffusion"] = "uniform_diffusion"
    times: Annotated[int, Field(ge=1)] = 64
    """In how many steps T integers become noise."""
    steps: Annotated[int, Field(ge=1)] | None = None
    """In how many of these steps samples are drawn, unless said otherwise. null: in all."""

    @field_validator("steps")
    @classmethod
    def _no_more_than_times(cls, steps: int | None, known: ValidationInfo) -> int | None:
        times = known.data.get("times")
        if steps is not None and times is not None and steps > times:
            raise ValueError(f"there are {times} times; give at most as many")
        return steps

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "UniformDiffusionPrior":
        """The prior over codes of these levels, with new weights."""
        return UniformDiffusionPrior(specs, conditioning, lengths, config=self)


class UniformDiffusionPrior(DiffusionPrior):
    """Codes drawn by T steps that each take some noise out of all slots.

    Structured Denoising Diffusion Models in Discrete State-Spaces,
    https://arxiv.org/abs/2107.03006: uniform transitions (appendix A.2.1), the network tells the
    true integers (equation 4). Of the bound (equation 1)

        -log p(x_0) <= L_T + sum over t of E KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) + L_0

    nothing is left out: L_T is 0, since at T nothing is left of x_0, and L_0 is the term t = 1. The
    divergence of each slot is a sum over its entries; t and x_t are drawn. What x_t says of its own
    slot is known, q(x_t | x_0), and is multiplied to what the network tells (Bayes' rule): one that
    tells nothing is the uniform prior, exactly.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.
        config: Widths, depth and times.
    """

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: UniformDiffusionConfig | None = None,
    ) -> None:
        self._config = config = config or UniformDiffusionConfig()
        super().__init__(specs, conditioning, lengths, config)
        self.clock = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, config.width),
            nn.GELU(),
            nn.Linear(config.width, config.width),
        )
        for name, parameter in self.clock.named_parameters():
            nn.init.normal_(parameter, std=0.0 if name.endswith("bias") else INIT_STD)

    @property
    def config(self) -> UniformDiffusionConfig:
        return self._config

    @property
    def most_steps(self) -> int:
        return self._config.times

    def check_steps(self, steps: int) -> None:
        if steps > self._config.times:
            raise ValueError(
                f"steps is {steps}, but the noise of this prior comes in {self._config.times} "
                "steps; give at most as many"
            )

    def cost(self, flat: Tensor, real: Tensor, told: Conditioned, noise: Noise) -> Tensor:
        t = 1 + (noise.level * self._config.times).long()
        noisy = self.replaced(flat, t, noise.slots)
        return self._config.times * self.divergences(flat, noisy, real, told, t)

    def replaced(self, flat: Tensor, t: Tensor, u: Tensor) -> Tensor:
        """Integers with the noise of a time: each is kept, or drawn from all entries alike.

        Args:
            flat: Integers, in the order of ``Codes.flat``. (B, L) int64
            t: Times, 0 to T. (B,) int64
            u: Uniform numbers. (B, L) float64

        Returns:
            (B, L) int64
        """
        kept = signal(t, self._config.times).unsqueeze(1)
        drawn = ((u - kept) / (1 - kept).clamp(min=1e-300) * self.slot_sizes).floor().long()
        return torch.where(u < kept, flat, drawn.clamp(min=0).minimum(self.slot_sizes - 1))

    def predict(self, noisy: Tensor, real: Tensor, told: Conditioned, t: Tensor) -> Tensor:
        """Vectors that predict the true integer of every slot.

        Args:
            noisy: Integers at time t. (B, L) int64
            real: Which are real; the others are seen by none. (B, L) bool
            told: What is known of the items.
            t: Times, 1 to T. (B,) int64

        Returns:
            (B, L, W)
        """
        x = self.network.embedding(noisy, real) + self.network.added(told)
        return self.network(x + self._time(t).unsqueeze(1), real, told)

    def _time(self, t: Tensor) -> Tensor:
        """What is added at every slot at a time. (B, W)"""
        powers = torch.arange(FREQUENCIES, device=t.device) / FREQUENCIES
        angles = (t / self._config.times).unsqueeze(1) * 1000**powers * (math.pi / 2)
        waves = torch.cat([angles.sin(), angles.cos()], dim=1)
        return self.clock(waves.to(self.network.register))

    def divergences(
        self, flat: Tensor, noisy: Tensor, real: Tensor, told: Conditioned, t: Tensor
    ) -> Tensor:
        """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) of each slot, 0 where not real.

        Args:
            flat: The true integers x_0. (B, L) int64
            noisy: Integers x_t. (B, L) int64
            real: Which are real. (B, L) bool
            told: What is known of the items.
            t: Times, 1 to T. (B,) int64

        Returns:
            Nats. (B, L)
        """
        hidden = self.predict(noisy, real, told, t)
        found = hidden.new_zeros(flat.shape, dtype=torch.promote_types(hidden.dtype, torch.float32))
        for slots in self.slots:
            jump = Jump(t.unsqueeze(1), t.unsqueeze(1) - 1, self._config.times, slots.size)
            logits = self.network.embedding.logits(hidden[:, slots.where], slots).to(found.dtype)
            kl = jump.divergence(logits, noisy[:, slots.where], flat[:, slots.where])
            found[:, slots.where] = kl
        return found.masked_fill(~real, 0)

    def mean_cost(self, flat: Tensor, real: Tensor, told: Conditioned) -> Tensor:
        states = math.prod(self.slot_sizes.tolist())
        if states > MOST_STATES:
            raise ValueError(
                f"items have {states} states, too many to go through; use log_prob, or at most "
                f"{MOST_STATES} states"
            )
        sizes = [torch.arange(size, device=flat.device) for size in self.slot_sizes.tolist()]
        total = torch.zeros(len(flat), dtype=torch.float64, device=flat.device)
        for state in torch.cartesian_prod(*sizes).reshape(states, -1):
            # Where a slot is not real, all that may stand there costs the same.
            noisy = state.expand_as(flat)
            for time in range(1, self._config.times + 1):
                t = torch.full_like(flat[:, 0], time)
                kept = signal(t, self._config.times).unsqueeze(1)
                p = (1 - kept) / self.slot_sizes + kept * (noisy == flat)
                p = torch.where(real, p, 1 / self.slot_sizes.double()).prod(1)
                cost = self.divergences(flat, noisy, real, told, t)
                total += p * cost.double().sum(1)
        return total

    def draw(
        self, known: Known, given: Conditioning, decoding: Decoding, mask: Tensor | None
    ) -> Tensor:
        num, length = known.mask.shape
        told = [self.told(num, given, mask), self.untold(num, given, decoding, mask)]
        real = torch.ones_like(known.mask) if mask is None else mask
        slots = torch.arange(length, device=real.device)
        flat = (decoding.uniform(START_STREAM, slots) * self.slot_sizes).long()
        times = self._sampling_times(decoding)
        for step, (t, s) in enumerate(itertools.pairwise(times)):
            now = torch.full((num,), t, device=real.device)
            noise = decoding.uniform(KNOWN_STREAM, step, slots)
            flat = torch.where(known.mask, self.replaced(known.flat, now, noise), flat)
            hidden = [self.predict(flat, real, each, now).flatten(0, 1) for each in told if each]
            jump = Jump(
                now.unsqueeze(1), (now - (t - s)).unsqueeze(1), self._config.times, self.slot_sizes
            )
            hints = Hints(flat.flatten(), jump.evidence.expand_as(flat).flatten())
            u = decoding.uniform(CANDIDATE_STREAM, step, slots).flatten()
            chosen = self.choose(hidden, slots.repeat(num), u, decoding, hints)
            u = decoding.uniform(JUMP_STREAM, step, slots)
            flat = jump.sample(flat, chosen.integers.view_as(flat), u)
        return torch.where(known.mask, known.flat, flat).masked_fill(~real, 0)

    def _sampling_times(self, decoding: Decoding) -> list[int]:
        """The times that sampling goes through, T first and 0 last, evenly."""
        times = self._config.times
        steps = self._config.steps if decoding.steps is None else int(decoding.steps)
        steps = steps or times
        return [times - times * step // steps for step in range(steps + 1)]
