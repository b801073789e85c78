"""Losses on where entries lie and on who chooses them, for any codebook."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from vqkit import distributed
from vqkit.quantizers.binary import DECAY
from vqkit.quantizers.chunks import in_chunks
from vqkit.quantizers.passes import of_pass
from vqkit.quantizers.scores import SCORES_PER_CHUNK

SHORTEST = 1e-3  # of the entries' root mean square length: bounds the gradient of those near 0


def squared_cosines(table: Tensor) -> Tensor:
    """The mean over all pairs of entries of (cosine - [the two are the same])^2.

    Exploration into Translation-Equivariant Image Quantization, equation 2,
    https://arxiv.org/abs/2112.00384: |E E' - 1|^2 / K^2, E being the entries scaled to length 1.
    With more entries than coordinates it is 1 / D - 1 / K at least.

    Args:
        table: Entries. (K, D)

    Returns:
        A number from 0 to 1 - 1 / K. ()
    """
    size, dim = table.shape
    with torch.autocast(table.device.type, enabled=False):
        lengths = torch.linalg.vector_norm(table, dim=-1, keepdim=True)
        shortest = SHORTEST * lengths.detach().square().mean().sqrt()
        units = table / lengths.clamp(min=torch.finfo(table.dtype).tiny).maximum(shortest)
        # |E E' - 1|^2 - K = |E' E - 1|^2 - D, both being |E E'|^2 - 2 |E|^2: take the small one.
        gram = units @ units.T if size <= dim else units.T @ units
        off = gram - torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
        return (off.square().sum() + max(size - dim, 0)) / size**2


@dataclass(frozen=True, slots=True)
class Chances:
    """What softmax(-|z - e|^2 / temperature) over all entries e gives for some vectors z.

    Attributes:
        entropy: Of each vector's chances, in nats. (N,)
        price: The mean price of an entry by each vector's chances. (N,)
        taken: The sum of the chances of the vectors that are real, without a gradient. (K,)
    """

    entropy: Tensor
    price: Tensor
    taken: Tensor


def chances(
    z: Tensor, table: Tensor, temperature: float, prices: Tensor, mask: Tensor | None = None
) -> Chances:
    """Compares each vector with all entries, a few vectors at a time.

    Memory grows with N D + K D: the chances are made anew in the backward pass.

    Args:
        z: Vectors. (N, D)
        table: Entries. (K, D)
        temperature: What squared distances are divided by.
        prices: Of the entries. (K,)
        mask: True where a vector is real; None when all are. (N,) bool
    """
    dtype = torch.promote_types(z.dtype, table.dtype)
    z, prices = z.to(dtype), prices.to(dtype)
    real = torch.ones_like(z[:, 0]) if mask is None else mask.to(dtype)
    function = partial(_chances, temperature=temperature)
    num = max(1, SCORES_PER_CHUNK // len(table))
    return Chances(*in_chunks(function, (z, real), (table.to(dtype), prices), num, num_sums=1))


def _chances(
    z: Tensor, real: Tensor, table: Tensor, prices: Tensor, *, temperature: float
) -> tuple[Tensor, Tensor, Tensor]:
    """What ``chances`` does, all vectors at once."""
    with torch.autocast(z.device.type, enabled=False):
        center = table.detach().mean(0)  # far from the origin products lose digits
        centred = table - center
        # Without |z|^2, which is the same for all entries and would only cost digits.
        scores = 2 * (z - center) @ centred.T - centred.square().sum(-1)
        logs = (scores / temperature).log_softmax(-1)
        shares = logs.exp()
        return -(shares * logs).sum(-1), shares @ prices, real @ shares.detach()


class AverageChances(nn.Module):
    """A running average of the chances of a codebook's entries: it says which are rare.

    It starts from even chances, and does so again when the codebook has got another size.

    Args:
        size: Number of entries K.

    Attributes:
        average: The average, which sums to 1. (K,)
    """

    average: Tensor
    pending: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("average", torch.full((size,), 1 / size))
        # Not saved: a checkpoint is written between steps, when nothing is pending.
        self.register_buffer("pending", torch.zeros(size), persistent=False)

    def prices(self, size: int) -> Tensor:
        """Minus the logarithm of each entry's chance. (K,)"""
        if len(self.average) != size:
            return self.average.new_full((size,), math.log(size))
        average = of_pass(self.average.clone) if self.training else self.average
        return -average.clamp(min=1e-20).log()

    def collect(self, taken: Tensor) -> None:
        """Adds what vectors of this rank take of each entry, until the next commit. (K,)"""
        self.follow(len(taken))
        self.pending += taken.to(self.pending.dtype)

    def commit(self) -> None:
        """Moves the average toward what was collected on all ranks."""
        pending = distributed.all_reduce(self.pending)
        total = pending.sum()  # the number of vectors, of which each takes 1 altogether
        new = pending / torch.where(total > 0, total, 1)
        # One overflow in mixed precision, a step that the optimizer skips, must not stay for good.
        weight = (1 - DECAY) * ((total > 0) & new.isfinite().all())
        self.average.lerp_(new.nan_to_num(), weight.to(new.dtype))
        self.pending.zero_()

    def follow(self, size: int) -> None:
        """Makes all entries alike if there is another number of them."""
        if len(self.average) != size:
            self.average = self.average.new_full((size,), 1 / size)
            self.pending = self.pending.new_zeros(size)

    def _load_from_state_dict(
        self,
        state_dict: dict[str, Any],
        prefix: str,
        local_metadata: dict[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        saved = state_dict.get(f"{prefix}average")
        if isinstance(saved, Tensor) and saved.dim() == 1:
            self.follow(len(saved))  # some codebooks are pruned or extended
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )
        self.pending.zero_()  # it belongs to the average before
