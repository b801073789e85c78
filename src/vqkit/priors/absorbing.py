"""Absorbing-state diffusion: slots are hidden, and a network tells what stands there."""

import itertools
from collections.abc import Sequence
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import LevelSpec
from vqkit.priors.conditioner import Conditioned
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.denoiser import DenoiserSize
from vqkit.priors.diffusion import DiffusionPrior
from vqkit.priors.known import Known
from vqkit.priors.lengths import Lengths
from vqkit.priors.noise import Noise
from vqkit.priors.revealing import Revealing
from vqkit.priors.sampling import Decoding
from vqkit.schema import STRICT

MOST_SLOTS = 12
"""The most slots of which ``exact_bound`` goes through all sets."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AbsorbingDiffusionConfig(DenoiserSize):
    """A Transformer that tells hidden integers from those that are known."""

    type: Literal["absorbing_diffusion"] = "absorbing_diffusion"
    steps: Annotated[int, Field(ge=1)] = 16
    """In how many steps samples are drawn, unless said otherwise: more are better, and slower."""
    order: Literal["random", "confidence"] = "random"
    """random: which integers are drawn in which step is chosen beforehand, and those alone are
    computed; confidence: each step draws all, and keeps those that were most probable (MaskGIT)."""
    confidence_noise: Annotated[float, Field(ge=0)] = 4.5
    """How much chance there is in the order of confidence, at first; in the last step there is
    none. Little makes samples alike."""

    def build(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
    ) -> "AbsorbingDiffusionPrior":
        """The prior over codes of these levels, with new weights."""
        return AbsorbingDiffusionPrior(specs, conditioning, lengths, config=self)


class AbsorbingDiffusionPrior(DiffusionPrior):
    """Codes drawn in random order, each slot from those that are known by then.

    The bound of absorbing diffusion in continuous time is that of an order drawn at random
    (Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data,
    theorem 2, https://arxiv.org/abs/2406.03736; also https://arxiv.org/abs/2406.04329):

        -log p(x) <= L E[1/k sum over i in S of -log p(x_i | x outside of S)]

    over k uniform in 1..L and S uniform among the sets of k slots. The network is told neither time
    nor k: it sees how much is hidden. Hidden slots are seen by no others, so that what is told of
    one does not depend on which others are asked for, and a step of sampling computes those alone
    that are known or drawn in it. All slots of a position may be drawn in the same step, each
    independent of the others given what was known before.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.
        config: Widths and depth, and how to draw.
    """

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None = None,
        lengths: Lengths | None = None,
        *,
        config: AbsorbingDiffusionConfig | None = None,
    ) -> None:
        self._config = config or AbsorbingDiffusionConfig()
        super().__init__(specs, conditioning, lengths, self._config)

    @property
    def config(self) -> AbsorbingDiffusionConfig:
        return self._config

    @property
    def most_steps(self) -> int:
        return len(self.slot_sizes)

    def cost(self, flat: Tensor, real: Tensor, told: Conditioned, noise: Noise) -> Tensor:
        num = real.sum(1)
        num_hidden = 1 + (noise.level * num).long()
        # The slots with the smallest numbers; those that are not real come last.
        order = noise.slots.masked_fill(~real, 2).argsort(dim=1)
        rank = torch.empty_like(order).scatter_(
            1, order, torch.arange(flat.shape[1], device=flat.device).expand_as(order)
        )
        hidden = real & (rank < num_hidden.unsqueeze(1))
        nats = self.network.embedding.nats(self.predict(flat, real & ~hidden, told), flat)
        weights = (num / num_hidden).to(nats).unsqueeze(1)
        return (nats * weights).masked_fill(~hidden, 0)

    def predict(self, flat: Tensor, known: Tensor, told: Conditioned) -> Tensor:
        """Vectors that predict what stands at every slot, from those that are known.

        Args:
            flat: Integers, in the order of ``Codes.flat``; anything where not known. (B, L) int64
            known: Which are known. (B, L) bool
            told: What is known of the items.

        Returns:
            (B, L, W)
        """
        x = self.embed(flat, known, torch.arange(flat.shape[1], device=flat.device))
        return self.network(x + self.network.added(told), known, told)

    def embed(self, flat: Tensor, known: Tensor, slots: Tensor) -> Tensor:
        """The vectors of integers of some slots, that of no integer where not known.

        Args:
            flat: Integers; any entry where not known. (B, N) int64
            known: Which are known. (B, N) bool
            slots: Which slots they are. (N,) or (B, N) int64

        Returns:
            (B, N, W)
        """
        embedding = self.network.embedding
        nothing = embedding.table.num_embeddings - 1
        return embedding.table((flat + embedding.offsets[slots]).masked_fill(~known, nothing))

    def mean_cost(self, flat: Tensor, real: Tensor, told: Conditioned) -> Tensor:
        if flat.shape[1] > MOST_SLOTS:
            raise ValueError(
                f"items have {flat.shape[1]} slots, too many to go through all sets of them; use "
                f"log_prob, or at most {MOST_SLOTS} slots"
            )
        num = real.sum(1)
        total = torch.zeros(len(flat), dtype=torch.float64, device=flat.device)
        for chosen in itertools.product((False, True), repeat=flat.shape[1]):
            hidden = torch.tensor(chosen, device=flat.device).expand_as(real)
            k = hidden.sum(1)
            within = (k > 0) & ~(hidden & ~real).any(1)
            nats = self.network.embedding.nats(self.predict(flat, real & ~hidden, told), flat)
            mean = nats.double().masked_fill(~hidden, 0).sum(1) / k.clamp(min=1)
            total += torch.where(within, mean / binomial(num, k), 0)
        return total

    def draw(
        self, known: Known, given: Conditioning, decoding: Decoding, mask: Tensor | None
    ) -> Tensor:
        steps = self._config.steps if decoding.steps is None else int(decoding.steps)
        revealing = Revealing(self, known, given, decoding, mask)
        if self._config.order == "random":
            return revealing.in_random_order(steps)
        return revealing.by_confidence(steps, self._config.confidence_noise)


def binomial(n: Tensor, k: Tensor) -> Tensor:
    """How many sets of k there are among n; float64."""
    n, k = n.double(), k.double()
    logarithm = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma((n - k).clamp(min=0) + 1)
    return logarithm.exp().round()
