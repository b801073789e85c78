"""Noise that replaces integers by any others, and the way back from it."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def signal(t: Tensor, times: int) -> Tensor:
    """The probability that an integer was not replaced up to a time; 1 at 0, and 0 at T.

    A cosine, as in Argmax Flows and Multinomial Diffusion, https://arxiv.org/abs/2102.05379.

    Args:
        t: Times, 0 to ``times``. (...) int64
        times: Number of times T.

    Returns:
        (...) float64
    """
    kept = torch.cos(math.pi / 2 * t.double() / times).square()
    return kept.masked_fill(t >= times, 0)


@dataclass(frozen=True, slots=True)
class Jump:
    """From a time to an earlier one: what an integer was there, given what it is and was at first.

    With a the probability of being kept between the two times, and b that of being kept up to the
    earlier one, by Bayes' rule (https://arxiv.org/abs/2107.03006, equation 3)

        q(x_s = j | x_t = i, x_0 = k) = (a [i = j] + (1 - a) / K) (b [j = k] + (1 - b) / K)
                                        / (a b [i = k] + (1 - a b) / K)

    Attributes:
        t: Times, at least 1. (...) int64
        s: Earlier times. (...) int64
        times: Number of all times T.
        size: Number of entries K, or one for each slot. (...)
    """

    t: Tensor
    s: Tensor
    times: int
    size: int | Tensor

    @property
    def earlier(self) -> Tensor:
        """b: the probability of being kept up to the earlier time. (...) float64"""
        return signal(self.s, self.times)

    @property
    def between(self) -> Tensor:
        """a: the probability of being kept between the times. (...) float64"""
        return signal(self.t, self.times) / self.earlier

    @property
    def evidence(self) -> Tensor:
        """By how much more x_t speaks for x_0 = x_t than for any other entry: (...) float64.

        log q(x_t = i | x_0 = i) - log q(x_t = i | x_0 = k), the same for all other k.
        """
        kept = self.between * self.earlier
        return torch.log1p(self.size * kept / (1 - kept))

    def log_probs(self, log_truth: Tensor, now: Tensor) -> Tensor:
        """log p(x_s | x_t), where the truth x_0 is known by its probabilities.

        Equation 4 of the same paper, as a sum over x_0, in time that is linear in K.

        Args:
            log_truth: Of each entry. (..., K)
            now: Integers x_t. (...) int64

        Returns:
            Of each entry. (..., K)
        """
        a, b = self.between.unsqueeze(-1), self.earlier.unsqueeze(-1)
        size = log_truth.shape[-1]
        here = F.one_hot(now, size).bool()
        from_now = torch.where(here, a + (1 - a) / size, (1 - a) / size)
        through = torch.where(here, a * b + (1 - a * b) / size, (1 - a * b) / size)
        truth = log_truth - through.log().to(log_truth)
        kept = b.log().to(truth) + truth
        replaced = ((1 - b) / size).log().to(truth) + truth.logsumexp(-1, keepdim=True)
        return from_now.log().to(truth) + torch.logaddexp(kept, replaced.expand_as(kept))

    def divergence(self, logits: Tensor, now: Tensor, first: Tensor) -> Tensor:
        """KL(q(x_s | x_t, x_0) || p(x_s | x_t)), where the network tells logits of x_0.

        Args:
            logits: Of each entry; what x_t says of its own slot is added. (..., K)
            now: Integers x_t. (...) int64
            first: Integers x_0. (...) int64

        Returns:
            Nats. (...)
        """
        size = logits.shape[-1]
        a, b = self.between.unsqueeze(-1), self.earlier.unsqueeze(-1)
        here, there = F.one_hot(now, size), F.one_hot(first, size)
        same = (here * there).sum(-1, keepdim=True)
        q = (a * here + (1 - a) / size) * (b * there + (1 - b) / size)
        q = (q / (a * b * same + (1 - a * b) / size)).to(logits)
        own = here * self.evidence.unsqueeze(-1).to(logits)
        log_p = self.log_probs((logits + own).log_softmax(-1), now)
        return (torch.xlogy(q, q) - q * log_p).sum(-1)

    def sample(self, now: Tensor, first: Tensor, u: Tensor) -> Tensor:
        """Draws x_s given x_t and x_0, by uniform numbers.

        The product above has four terms: kept since s or not, and kept up to s or not.

        Args:
            now: Integers x_t. (...) int64
            first: Integers x_0. (...) int64
            u: Uniform numbers. (...) float64

        Returns:
            Integers x_s. (...) int64
        """
        a, b, size = self.between, self.earlier, self.size
        stay = a * (b * (now == first) + (1 - b) / size)
        back = (1 - a) * b / size
        other = (1 - a) * (1 - b) / size
        u = u * (stay + back + other)
        any_entry = ((u - stay - back) / other.clamp(min=1e-300) * size).long()
        limit = torch.as_tensor(size, device=now.device) - 1
        drawn = torch.where(u < stay + back, first, any_entry.clamp(min=0).minimum(limit))
        return torch.where(u < stay, now, drawn)
