"""How much a decoder relies on the codes: what an item costs given another item's codes."""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE, Output
from vqkit.data import Batch, Examples, in_order
from vqkit.distributed import all_reduce, rank, world_size
from vqkit.nn.evaluating import device_of, evaluating

LEAST_BITS = 0.01
"""A decoder that loses less than this, per dimension, with an unlike item's codes ignores them."""


class Reliance:
    """Adds up log p(x | own codes) - log p(x | another item's codes) over a split.

    Whether codes are in use says nothing of whether they are needed: a decoder strong enough to
    model the items alone may ignore them, and then the difference is 0.

    Args:
        device: Where the numbers are.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self.nats = torch.zeros((), dtype=torch.float64, device=device)
        self.counts = torch.zeros(2, dtype=torch.int64, device=device)

    def add(self, dims: Tensor, own: Tensor | None = None, other: Tensor | None = None) -> None:
        """Counts a batch in; one without numbers leaves the whole split without a figure.

        Args:
            dims: Number of real values of each item. (B,) int64
            own: log p(x | own codes) of each item, in nats. (B,)
            other: log p(x | another item's codes) of each item, in nats. (B,)
        """
        total, paired = dims.sum(), torch.zeros_like(dims).sum()
        if own is not None and other is not None:
            self.nats += (own.double() - other.double()).sum()
            paired = total
        self.counts += torch.stack([total, paired]).to(self.counts.device)

    def results(self) -> dict[str, float]:
        """``code_reliance_bits_per_dim`` over all ranks, or nothing; every rank must call it."""
        nats = float(all_reduce(self.nats.clone()))
        dims, paired = all_reduce(self.counts.clone()).tolist()
        if not dims or paired < dims:
            return {}
        return {"code_reliance_bits_per_dim": nats / math.log(2) / dims}


def partners(items: range, num_items: int) -> list[int]:
    """Whose codes each item is given: a cyclic shift of the split by half of it.

    Not by one: neighbours are often of one class. No item has its own codes if there are two.
    """
    return [(i + num_items // 2) % num_items for i in items]


def fit_together(batch: Batch, other: Batch) -> bool:
    """Whether the items of one batch can have the codes of those of the other."""
    masked = batch.mask is not None or other.mask is not None
    return not masked and batch.x.shape == other.x.shape


def own_log_prob(model: VQVAE, batch: Batch, out: Output) -> Tensor | None:
    """log p(x | own codes) of each item, in nats (B,); None without a likelihood, or with a mask.

    Args:
        model: What made ``out`` of the batch.
        batch: On the device.
        out: With what the decoder says.
    """
    if not model.objective.claims_likelihood or batch.mask is not None:
        return None
    return out.distribution.log_prob(model.objective.normalize(batch.x))


def log_prob_given(model: VQVAE, x: Tensor, other: Tensor) -> Tensor:
    """log p(x | codes of other items) of each item, in nats.

    Args:
        model: In evaluation mode.
        x: Items as the data give them. (B, C, *grid)
        other: The other items. (B, C, *grid)

    Returns:
        (B,)
    """
    return model.distribution(model.encode(other)).log_prob(model.objective.normalize(x))


@torch.no_grad()
def code_reliance(model: VQVAE, examples: Examples, *, batch_size: int = 64) -> float | None:
    """How many bits per dimension the own codes of an item save, against those of another item.

    Args:
        model: The tokenizer, whose objective claims a likelihood.
        examples: The split, without augmentation; ranks share it.
        batch_size: Items at once.

    Returns:
        The mean over the values of all items; None if there are fewer than two items, or they are
        of unequal sizes. Every rank must call it.

    Raises:
        ValueError: If no likelihood is claimed.
    """
    num, device = len(examples), device_of(model)
    if num < 2:
        return None
    reliance = Reliance(device=device)
    items = range(num * rank() // world_size(), num * (rank() + 1) // world_size())
    batches = in_order(examples, batch_size, indices=items)
    others = in_order(examples, batch_size, indices=partners(items, num))
    with evaluating(model):
        for batch, other in zip(batches, others, strict=True):
            dims = torch.full((len(batch),), batch.x[0].numel())
            if fit_together(batch, other):
                x, y = batch.x.to(device), other.x.to(device)
                own = log_prob_given(model, x, x)
                reliance.add(dims, own, log_prob_given(model, x, y))
            else:
                reliance.add(dims)
    return reliance.results().get("code_reliance_bits_per_dim")


def finding(metrics: Mapping[str, Any]) -> str | None:
    """What is wrong, by the figures of an evaluation, and what to try; None if nothing is known."""
    rise = metrics.get("code_reliance_bits_per_dim")
    if rise is None or rise >= LEAST_BITS:
        return None
    return (
        f"the decoder ignores its codes: with those of another image the cost rises by "
        f"{max(rise, 0):.4f} bits/dim, less than {LEAST_BITS}. Try a lower train.learning_rate, or "
        "a smaller model.decoder"
    )
