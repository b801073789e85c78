"""Drawing hidden slots in few steps: which come in which step, and from what."""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vqkit.priors.conditioning import Conditioning
from vqkit.priors.known import Known
from vqkit.priors.sampling import Decoding

if TYPE_CHECKING:
    from vqkit.priors.absorbing import AbsorbingDiffusionPrior

ORDER_STREAM, CANDIDATE_STREAM, RANK_STREAM = -2, -3, -4
"""The words that keep the numbers of the order apart from those of the integers."""


def num_hidden(step: int, steps: int, num: Tensor) -> Tensor:
    """How many slots are still hidden after a step: by a cosine, few are drawn at first.

    MaskGIT, section 3.2 and figure 3, https://arxiv.org/abs/2202.04200; at least one is drawn in
    each step, so that ``num`` steps draw one after another, and more are as many.

    Args:
        step: Number of the step, 0 for before the first.
        steps: Number of all steps.
        num: How many are hidden at first. (...) int64

    Returns:
        (...) int64
    """
    share = torch.cos(math.pi / 2 * step / num.double().clamp(max=steps).clamp(min=1))
    cosine = (num * share).floor().long()
    return torch.minimum(cosine, num - step).clamp(min=0)


class Revealing:
    """The items that are drawn, and the network that tells of their hidden slots.

    Args:
        prior: Whose network it is.
        known: Integers that are given. B items
        given: What the items shall be; checked.
        decoding: How to draw.
        mask: Which integers are real; None when all are. (B, L) bool
    """

    def __init__(
        self,
        prior: "AbsorbingDiffusionPrior",
        known: Known,
        given: Conditioning,
        decoding: Decoding,
        mask: Tensor | None,
    ) -> None:
        num, self.length = known.mask.shape
        self.prior, self.decoding = prior, decoding
        told, untold = prior.told(num, given, mask), prior.untold(num, given, decoding, mask)
        self.told = [told] if untold is None else [told, untold]
        self.flat, self.known = known.flat.masked_fill(~known.mask, 0), known.mask
        self.real = torch.ones_like(known.mask) if mask is None else mask
        self.num_hidden = (self.real & ~self.known).sum(1)
        self.slots = torch.arange(self.length, device=self.flat.device)

    def _useful_steps(self, steps: int) -> int:
        """In how many of the steps anything is left to draw."""
        return min(steps, int(self.num_hidden.max())) if len(self.flat) else 0

    def in_random_order(self, steps: int) -> Tensor:
        """Draws in an order that is chosen beforehand; with one slot in each step, exactly.

        The slots of each item stand in that order, those that are known before them: a step sees
        the first ones of the row alone.

        Args:
            steps: In how many steps at most.

        Returns:
            Integers, 0 where not real. (B, L) int64
        """
        keys = self.decoding.uniform(ORDER_STREAM, self.slots)
        keys = keys.masked_fill(self.known, -1).masked_fill(~self.real, 2)
        order = keys.argsort(dim=1, stable=True)
        flat, u = self.flat.gather(1, order), self.decoding.uniform(self.slots).gather(1, order)
        added = [rows(self.prior.network.added(told), order) for told in self.told]
        num_known, steps = self.known.sum(1), self._useful_steps(steps)
        stops = [
            num_known + self.num_hidden - num_hidden(step, steps, self.num_hidden)
            for step in range(steps + 1)
        ]
        ends = torch.stack(stops).amax(1).tolist() if len(flat) else []
        for step in range(1, steps + 1):
            row = slice(ends[step])
            known = self.slots[row] < stops[step - 1].unsqueeze(1)
            new = (self.slots[row] < stops[step].unsqueeze(1)) & ~known
            x = self.prior.embed(flat[:, row], known, order[:, row])
            hidden = [
                self.prior.network(x + each[:, row], known, told)[new]
                for each, told in zip(added, self.told, strict=True)
            ]
            chosen = self.prior.choose(hidden, order[:, row][new], u[:, row][new], self.decoding)
            flat[:, row][new] = chosen.integers
        return torch.zeros_like(flat).scatter_(1, order, flat).masked_fill(~self.real, 0)

    def by_confidence(self, steps: int, noise: float) -> Tensor:
        """Draws all hidden slots in each step, and keeps those that are most probable.

        MaskGIT, section 3.2, https://arxiv.org/abs/2202.04200, with Gumbel noise on the
        log-probabilities that falls to 0, as its program has it.

        Args:
            steps: In how many steps at most.
            noise: Scale of the noise before the first step.

        Returns:
            Integers, 0 where not real. (B, L) int64
        """
        flat, known = self.flat.clone(), self.known.clone()
        steps = self._useful_steps(steps)
        for step in range(1, steps + 1):
            asked = self.real & ~known
            hidden = [self.prior.predict(flat, known, told)[asked] for told in self.told]
            u = self.decoding.uniform(CANDIDATE_STREAM, step, self.slots)[asked]
            slots = self.slots.expand_as(flat)[asked]
            chosen = self.prior.choose(hidden, slots, u, self.decoding)
            gumbel = -(-self.decoding.uniform(RANK_STREAM, step, self.slots).log()).log()
            last = self.num_hidden.clamp(min=1, max=steps).unsqueeze(1)
            scores = (noise * (1 - step / last) * gumbel)[asked] + chosen.log_probs
            ranked = torch.full(flat.shape, -math.inf, dtype=scores.dtype, device=flat.device)
            order = ranked.masked_scatter(asked, scores).argsort(
                dim=1, descending=True, stable=True
            )
            number = asked.sum(1) - num_hidden(step, steps, self.num_hidden)
            best = torch.zeros_like(known).scatter_(1, order, self.slots < number.unsqueeze(1))
            flat = torch.where(best, flat.masked_scatter(asked, chosen.integers), flat)
            known = known | best
        return flat.masked_fill(~self.real, 0)


def rows(x: Tensor, order: Tensor) -> Tensor:
    """The rows of each item in another order: (B, L, W), (B, L) -> (B, L, W)."""
    return x.gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))
