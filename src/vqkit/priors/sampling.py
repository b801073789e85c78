"""Drawing from logits by numbers that are given, never from a hidden generator."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.random import uniform

STREAM = int.from_bytes(b"prior")  # keeps these numbers apart from others of the same seed


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """Raises ValueError unless the arguments of ``choose`` make sense."""
    if not 0 < temperature < math.inf:
        raise ValueError(f"temperature is {temperature}; give a number greater than 0")
    if top_k is not None and (top_k < 1 or top_k != int(top_k)):
        raise ValueError(f"top_k is {top_k}; give an integer of at least 1, or None to keep all")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p is {top_p}; give more than 0 and at most 1")


def probabilities(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Tensor:
    """The distribution that ``choose`` draws from; arguments as there. (..., K) float64"""
    check_sampling(temperature, top_k, top_p)
    logits = logits.double()
    logits = (logits - logits.amax(-1, keepdim=True)) / temperature
    if top_k is None and top_p is None:
        return logits.softmax(-1)
    sorted_logits, order = logits.sort(dim=-1, descending=True, stable=True)
    if top_k is not None:
        sorted_logits[..., int(top_k) :] = -math.inf
    kept = sorted_logits.softmax(-1)
    if top_p is not None:
        before = kept.cumsum(-1) - kept
        kept = kept.masked_fill(before >= top_p, 0)
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
        top_p: Of those, the fewest most probable whose sum is at least p are left; None for all.

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


@torch.no_grad()
def draw(
    next_logits: Callable[[int, Tensor], Tensor],
    specs: Sequence[LevelSpec],
    items: Tensor,
    *,
    seed: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
) -> Codes:
    """Draws codes integer by integer, in the order of ``Codes.flat``.

    Args:
        next_logits: As ``Prior.next_logits`` returns it.
        specs: The shapes of the levels.
        items: Number of each item; what it becomes depends on (seed, number) only. (B,) int64
        seed: Of all items.
        temperature: See ``choose``; so are ``top_k`` and ``top_p``.
        top_k: See ``choose``.
        top_p: See ``choose``.
    """
    check_sampling(temperature, top_k, top_p)
    length = sum(spec.num_tokens for spec in specs)
    slots = torch.arange(length, device=items.device)
    u = uniform(seed, STREAM, items.unsqueeze(-1), slots)
    flat = torch.zeros_like(u, dtype=torch.int64)
    previous = torch.zeros_like(items)
    for slot in range(length):
        logits = next_logits(slot, previous)
        previous = choose(logits, u[:, slot], temperature=temperature, top_k=top_k, top_p=top_p)
        flat[:, slot] = previous
    return Codes.from_flat(flat, specs)
