"""Drawing from logits by numbers that are given, never from a hidden generator."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.drawing import Drawing, check_choice
from vqkit.priors.trie import Trie
from vqkit.random import uniform

STREAM = int.from_bytes(b"prior")  # keeps these numbers apart from others of the same seed


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoding(Drawing):
    """What is drawn of some items, and how.

    Attributes:
        seed: Of all items.
        items: Number of each item; what it becomes depends on (seed, number) only. (B,) int64
        valid: The codes that items may have; None for all.
    """

    seed: int
    items: Tensor
    valid: Trie | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.seed, int):
            raise TypeError(f"seed is {self.seed}; give an integer")
        Drawing.__post_init__(self)  # super() does not find the class that slots made

    def uniform(self, *words: int | Tensor) -> Tensor:
        """Numbers of every item, for further words that broadcast with (B, 1). float64"""
        return uniform(self.seed, STREAM, self.items.unsqueeze(-1), *words)

    def choose(self, logits: Tensor, u: Tensor) -> Tensor:
        """Draws from logits (..., K) by uniform numbers (...); see ``choose``. (...) int64"""
        return choose(logits, u, temperature=self.temperature, top_k=self.top_k, top_p=self.top_p)

    def guided(self, told: Tensor, untold: Tensor) -> Tensor:
        """Logits that hold closer to the conditioning.

        Classifier-Free Diffusion Guidance, equation 6, https://arxiv.org/abs/2207.12598, with
        guidance = 1 + w.

        Args:
            told: Logits given the conditioning, up to a constant. (..., K)
            untold: Logits without it. (..., K)
        """
        told, untold = told.double().log_softmax(-1), untold.double().log_softmax(-1)
        return torch.where(told.isinf(), told, untold + self.guidance * (told - untold))


def probabilities(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """The distribution that ``choose`` draws from; arguments as there. (..., K) float64"""
    check_choice(temperature, top_k, top_p)
    logits = logits.double()
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is None and top_p is None:
        return logits.softmax(-1)
    if top_p == 0 and not logits.isnan().any():  # nothing to sort
        first = (logits == 0).byte().argmax(-1, keepdim=True)
        return torch.zeros_like(logits).scatter_(-1, first, 1)
    sorted_logits, order = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        sorted_logits[..., int(top_k) :] = -math.inf
    kept = sorted_logits.softmax(-1)
    if top_p is not None:
        enough = kept.cumsum(-1) - kept >= top_p
        enough[..., 0] = False  # the most probable one stays in any case
        kept = kept.masked_fill(enough, 0)
    return torch.zeros_like(logits).scatter_(-1, order, kept / kept.sum(-1, keepdim=True))


def choose(
    logits: Tensor,
    u: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """Draws an index from each row by inverting its cumulative distribution, in float64.

    Args:
        logits: Log-probabilities up to a constant; -inf where impossible. (..., K)
        u: Uniform numbers, at least 0 and less than 1. (...) float64
        temperature: Divides the logits; greater than 0.
        top_k: Only the k most probable are left, the lowest indices on ties; None for all.
        top_p: Of those, the fewest most probable whose sum is at least p are left; 0 for the most
            probable alone, None for all.

    Returns:
        Indices. (...) int64

    Raises:
        ValueError: If an option is out of range, or logits are NaN or all -inf.
    """
    p = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    # 0 where impossible: no rounding of a sum can make such an entry the first one above u.
    cumulative = p.cumsum(-1).masked_fill(p == 0, 0)
    total = cumulative.amax(-1)
    if not total.isfinite().all():
        raise ValueError("logits hold NaN, or a row of only -inf; the model has diverged")
    below = torch.nextafter(total, torch.zeros_like(total))
    above = cumulative > torch.minimum(u * total, below).unsqueeze(-1)
    return above.byte().argmax(-1)
