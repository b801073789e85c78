"""How much a decoder relies on the codes: what an item costs given another item's codes."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE, Output
from vqkit.codes import Codes
from vqkit.data import Batch, Examples, in_order, lengths_of
from vqkit.distributed import all_reduce, rank, world_size
from vqkit.evaluation.likelihood import num_dims
from vqkit.nn.evaluating import device_of, evaluating
from vqkit.tokens.sizes import alike, by_size

LEAST_BITS = 0.01
"""A decoder that loses less than this, per dimension, with an unlike item's codes ignores them."""
LEAST_UNLIKE = 0.05
"""Where fewer codes than this share differ between items, no decoder can tell items by them."""


class Reliance:
    """Adds up log p(x | own codes) - log p(x | another item's codes) over a split.

    Whether codes are in use says nothing of whether they are needed: a decoder strong enough to
    model the items alone may ignore them, and then the difference is 0.

    Args:
        device: Where the numbers are.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self.nats = torch.zeros((), dtype=torch.float64, device=device)
        self.counts = torch.zeros(4, dtype=torch.int64, device=device)

    def add(
        self,
        dims: Tensor,
        own: Tensor | None = None,
        other: Tensor | None = None,
        unlike: Tensor | None = None,
    ) -> None:
        """Counts a batch in; one without numbers leaves the whole split without a figure.

        Args:
            dims: Number of real values of each item. (B,) int64
            own: log p(x | own codes) of each item, in nats. (B,)
            other: log p(x | another item's codes) of each item, in nats. (B,)
            unlike: Which codes differ from the other item's. (B, L) bool
        """
        total, paired = dims.sum(), torch.zeros_like(dims).sum()
        if own is not None and other is not None:
            self.nats += (own.double() - other.double()).sum()
            paired = total
        places = [0, 0] if unlike is None else [int(unlike.sum()), unlike.numel()]
        self.counts += torch.tensor([int(total), int(paired), *places], device=self.counts.device)

    def results(self) -> dict[str, float]:
        """The figures over all ranks, or nothing; every rank must call it.

        Returns:
            ``code_reliance_bits_per_dim``, and ``unlike_codes``, the share of codes in which two
            items differed.
        """
        nats = float(all_reduce(self.nats.clone()))
        dims, paired, unlike, places = all_reduce(self.counts.clone()).tolist()
        if not dims or paired < dims:
            return {}
        found = {"code_reliance_bits_per_dim": nats / math.log(2) / dims}
        return found | ({"unlike_codes": unlike / places} if places else {})


def partners(items: Sequence[int], num_items: int) -> list[int]:
    """Whose codes each item is given: a cyclic shift of the split by half of it.

    Not by one: neighbours are often of one class. No item has its own codes if there are two.
    """
    return [(i + num_items // 2) % num_items for i in items]


def partners_in(examples: Examples, items: Sequence[int]) -> list[int]:
    """The partners of some items of a split, of the same length where the examples tell lengths.

    Among items of unlike lengths they are found as by ``partners`` among those of one length, and
    one that is alone with its length is its own.
    """
    lengths = lengths_of(examples)
    if lengths is None:
        return partners(items, len(examples))
    groups: dict[int, list[int]] = {}
    for index, length in enumerate(lengths):
        groups.setdefault(length, []).append(index)
    shifted = {}
    for group in groups.values():
        shifted |= {
            group[i]: group[j] for i, j in enumerate(partners(range(len(group)), len(group)))
        }
    return [shifted[item] for item in items]


def in_pairs(
    batch: Batch, other: Batch | None, *, by_length: bool
) -> Iterator[tuple[Batch, Batch | None]]:
    """Parts of a batch without padding, each with the partners of its items.

    Args:
        batch: Items.
        other: Their partners; None without any.
        by_length: Whether each item has a partner of its own length.

    Returns:
        With None for partners of other sizes, whose codes the items cannot have.
    """
    if other is None or (not by_length and not fit_together(batch, other)):
        for part in by_size(batch):
            yield part, None
    else:
        yield from zip(by_size(batch), by_size(other), strict=True)


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


def log_prob_given(model: VQVAE, x: Tensor, codes: Codes) -> Tensor:
    """log p(x | codes) of each item, in nats.

    Args:
        model: In evaluation mode.
        x: Items as the data give them. (B, C, *grid)
        codes: Of these items, or of others. B items

    Returns:
        (B,)
    """
    return model.distribution(codes).log_prob(model.objective.normalize(x))


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
    first, last = (num * r // world_size() for r in (rank(), rank() + 1))
    items, by_length = alike(examples, range(first, last)), lengths_of(examples) is not None
    batches = in_order(examples, batch_size, indices=items)
    others = in_order(examples, batch_size, indices=partners_in(examples, items))
    with evaluating(model):
        for whole, shifted in zip(batches, others, strict=True):
            for batch, other in in_pairs(whole, shifted, by_length=by_length):
                dims = num_dims(model, batch)
                if other is None:
                    reliance.add(dims)
                    continue
                apart = batch.positions != other.positions
                dims, x, y = dims[apart], batch.x[apart].to(device), other.x[apart].to(device)
                own = log_prob_given(model, x, model.encode(x))
                lost = log_prob_given(model, x, model.encode(y))
                reliance.add(dims, own, lost)
    return reliance.results().get("code_reliance_bits_per_dim")


def finding(metrics: Mapping[str, Any]) -> str | None:
    """What is wrong, by the figures of an evaluation, and what to try; None if nothing is known."""
    rise = metrics.get("code_reliance_bits_per_dim")
    if rise is None or rise >= LEAST_BITS:
        return None
    cost = f"the cost rises by {max(rise, 0):.4f} bits/dim, less than {LEAST_BITS}"
    unlike = metrics.get("unlike_codes", 1.0)
    if unlike < LEAST_UNLIKE:
        return (
            f"items have the same codes: only {unlike:.1%} of them differ between two items, and "
            f"with another item's {cost}. Look at the entries used; train longer (train.steps)"
        )
    return (
        f"the decoder ignores its codes: with those of another item {cost}. Train longer "
        "(train.steps) or at a lower train.learning_rate; a decoder of one value after another "
        "may also be smaller (model.decoder)"
    )
