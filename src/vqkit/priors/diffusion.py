"""Priors that take noise out of codes: what absorbing and uniform noise have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.dropout import check_noise, no_dropout, noise_uniforms
from vqkit.priors.base import Prior
from vqkit.priors.conditioner import Conditioned
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.denoiser import Denoiser, DenoiserSize
from vqkit.priors.lengths import Lengths
from vqkit.priors.noise import Noise, own_noise
from vqkit.priors.sampling import Decoding


@dataclass(frozen=True, slots=True)
class Drawn:
    """Integers that were drawn.

    Attributes:
        integers: One for each slot. (N,) int64
        log_probs: How probable each was before ``temperature``, ``top_k`` and ``top_p``, in nats.
            (N,) float64
    """

    integers: Tensor
    log_probs: Tensor


@dataclass(frozen=True, slots=True)
class Hints:
    """What speaks for one entry of each slot besides the network.

    Attributes:
        integers: The entries. (N,) int64
        weights: What is added to their logits. (N,) float64
    """

    integers: Tensor
    weights: Tensor

    def __getitem__(self, rows: Tensor) -> "Hints":
        """Those of some slots."""
        return Hints(self.integers[rows], self.weights[rows])

    def added_to(self, logits: Tensor) -> Tensor:
        """Logits (N, K) with what speaks for the entries."""
        weights = self.weights.to(logits).unsqueeze(1)
        return logits.scatter_add(1, self.integers.unsqueeze(1), weights)


class DiffusionPrior(Prior):
    """A network that tells codes from codes with noise, and by it a lower bound of p(codes).

    ``log_prob`` estimates the bound without bias, by ``bound_draws`` draws of noise that are a hash
    of the item's own integers: the same whatever the batch, and whatever the item is said to be. In
    training it is one draw for each item, which depends on the step.

    Args:
        specs: The shapes of the levels, coarsest first.
        conditioning: What it is told of the items.
        lengths: How long items are; None when all are as long.
        size: Widths and depth of the network.
    """

    exact = False
    completes_any = True
    in_steps = True

    codebooks: Tensor
    """Number of the codebook of each slot of ``Codes.flat``. (L,) int64"""

    def __init__(
        self,
        specs: Sequence[LevelSpec],
        conditioning: ConditioningSpec | None,
        lengths: Lengths | None,
        size: DenoiserSize,
    ) -> None:
        super().__init__(specs, conditioning, lengths)
        self._size = size
        self.network = Denoiser(
            self.specs, self.conditioning, size, lengths=self.lengths is not None
        )
        codebooks = torch.zeros_like(self.slot_sizes)
        for number, slots in enumerate(self.slots):
            codebooks[slots.where] = number
        self.register_buffer("codebooks", codebooks, persistent=False)

    @property
    def needs_conditioning(self) -> bool:
        return not self.conditioning.is_empty and self._size.drop_conditioning == 0

    @property
    @abstractmethod
    def most_steps(self) -> int:
        """The number of steps in which samples come from the distribution that is bounded."""

    @abstractmethod
    def cost(self, flat: Tensor, real: Tensor, told: Conditioned, noise: Noise) -> Tensor:
        """One estimate of minus the bound, without bias, as parts of the slots.

        Args:
            flat: Integers, in the order of ``Codes.flat``. (B, L) int64
            real: Which are real. (B, L) bool
            told: What is known of the items.
            noise: What is drawn.

        Returns:
            Nats; 0 where not real. (B, L)
        """

    @abstractmethod
    def mean_cost(self, flat: Tensor, real: Tensor, told: Conditioned) -> Tensor:
        """The mean of ``cost`` over all noise, summed over slots; arguments as there.

        Returns:
            Nats. (B,) float64

        Raises:
            ValueError: If there is more noise than can be gone through.
        """

    @torch.no_grad()
    def exact_bound(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        """The bound that ``log_prob`` estimates, by going through all noise: for few slots.

        Args:
            codes: Of the levels of ``specs``. B items
            given: What is known of the items.

        Returns:
            Nats. (B,) float64

        Raises:
            ValueError: If there is more noise than can be gone through.
        """
        flat, mask = self.check_codes(codes), codes.flat_mask()
        real = torch.ones_like(flat, dtype=torch.bool) if mask is None else mask
        with no_dropout():
            told = self.told(len(flat), self.check_given(given, len(flat)), mask)
            cost = self.mean_cost(flat, real, told)
        return self.log_prob_lengths(codes).to(cost) - cost

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        given = self.check_given(given, len(flat))
        told = self.network.conditioner(given, len(flat), mask)
        real = torch.ones_like(flat, dtype=torch.bool) if mask is None else mask
        numbers = None
        if self.training:
            check_noise()
            numbers = noise_uniforms(len(flat), 1 + flat.shape[1])
        if numbers is not None:
            numbers = numbers.to(flat.device)
            return self.cost(flat, real, told, Noise(numbers[:, 0], numbers[:, 1:]))
        draws = self._size.bound_draws
        total = torch.zeros(flat.shape, dtype=torch.float64, device=flat.device)
        for noise in own_noise(flat, real, draws):
            total = total + self.cost(flat, real, told, noise)
        return total / draws

    def told(self, num: int, given: Conditioning, mask: Tensor | None) -> Conditioned:
        """What the network is told of items that are drawn; ``given`` is checked."""
        return self.network.conditioner(given, num, mask)

    def untold(
        self, num: int, given: Conditioning, decoding: Decoding, mask: Tensor | None
    ) -> Conditioned | None:
        """The same without what may be left out; None where it makes no difference."""
        return None if decoding.guidance == 1 else self.told(num, given.left_out, mask)

    def choose(
        self,
        hidden: Sequence[Tensor],
        slots: Tensor,
        u: Tensor,
        how: Decoding,
        hints: Hints | None = None,
    ) -> Drawn:
        """Draws the integers of slots, each from the logits of its own codebook.

        Args:
            hidden: What they are predicted from, with guidance also without conditioning. (N, W)
            slots: Which slots they are. (N,) int64
            u: Uniform numbers. (N,) float64
            how: How to draw.
            hints: What else speaks for an entry of each; None for nothing.
        """
        if len(self.slots) == 1:
            return self._choose(hidden, 0, u, how, hints)
        integers, log_probs = torch.zeros_like(slots), torch.zeros_like(u)
        codebooks = self.codebooks[slots]
        for number in range(len(self.slots)):
            rows = (codebooks == number).nonzero().squeeze(1)
            own = None if hints is None else hints[rows]
            chosen = self._choose([each[rows] for each in hidden], number, u[rows], how, own)
            integers[rows], log_probs[rows] = chosen.integers, chosen.log_probs
        return Drawn(integers, log_probs)

    def _choose(
        self, hidden: Sequence[Tensor], number: int, u: Tensor, how: Decoding, hints: Hints | None
    ) -> Drawn:
        """The same of slots of one codebook."""
        logits = [self.network.embedding.logits(each, self.slots[number]) for each in hidden]
        if hints is not None:
            logits = [hints.added_to(each) for each in logits]
        guided = logits[0].double() if len(logits) == 1 else how.guided(logits[0], logits[1])
        integers = how.choose(guided, u)
        log_probs = guided.log_softmax(-1).gather(1, integers.unsqueeze(1)).squeeze(1)
        return Drawn(integers, log_probs)
