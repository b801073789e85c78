"""The noise by which the bound of an item is estimated: numbers that are given, never drawn."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.random import hash_tensor, uniform, uniform_rows

STREAM = int.from_bytes(b"bound")  # keeps these numbers apart from others


@dataclass(frozen=True, slots=True)
class Noise:
    """Uniform numbers between 0 and 1 that decide over one draw of noise.

    Attributes:
        level: How much noise. (B,) float64
        slots: Which noise at each slot. (B, L) float64
    """

    level: Tensor
    slots: Tensor


def own_noise(flat: Tensor, real: Tensor, draws: int) -> Iterator[Noise]:
    """Draws that are a hash of the item's own integers, the same in every batch.

    They are also the same whatever the item is said to be: what its class is worth is then the
    difference of two estimates whose errors are alike (common random numbers; as in Your Diffusion
    Model is Secretly a Zero-Shot Classifier, https://arxiv.org/abs/2303.16203).
    The levels of an item lie evenly from a random start: each is uniform, and their mean varies
    less than that of independent ones (stratified sampling).

    Args:
        flat: Integers, in the order of ``Codes.flat``. (B, L) int64
        real: Which are real; others make no difference. (B, L) bool
        draws: How many.
    """
    slots = torch.arange(flat.shape[1], device=flat.device)
    own = (hash_tensor(STREAM, slots, flat) * real).sum(1)
    start = uniform(own, draws)
    for draw in range(draws):
        yield Noise((draw + start) / draws, uniform_rows(own, draw, size=flat.shape[1]))
