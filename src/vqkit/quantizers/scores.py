"""All entries scored for each vector, a few vectors at a time, by operators of torch.

What traces or compiles a program sees each as one step, so that the precision of its matrix
products stays what it is here, whatever the user chose.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from vqkit.quantizers.search import full_precision

SCORES_PER_CHUNK = 2**20
ROUNDINGS = 64  # that scores and prices have behind them, at most


def scores_in_chunks(z: Tensor, entries: Tensor) -> Iterator[tuple[slice, Tensor]]:
    """Minus the squared distances, up to a term that is one vector's own, a few rows at a time.

    Args:
        z: Vectors. (N, D)
        entries: Codebook entries. (K, D)

    Yields:
        Which rows, and their scores. (n, K)
    """
    center = entries.mean(0)
    centred = entries - center
    squares = centred.square().sum(-1)
    num = max(1, SCORES_PER_CHUNK // len(entries))
    for first in range(0, len(z), num):
        rows = slice(first, first + num)
        scores = squares.neg().repeat(len(z[rows]), 1)
        with full_precision(z.device.type):  # in place, so that autocast leaves it alone
            scores.addmm_((z[rows] - center).to(scores.dtype), centred.T, alpha=2)
        yield rows, scores


@torch.library.custom_op("vqkit::drawn", mutates_args=())
def drawn(z: Tensor, entries: Tensor, draws: Tensor, temperature: float) -> Tensor:
    """An entry for each vector, drawn with probability proportional to exp(score / temperature).

    Args:
        z: Vectors. (N, D)
        entries: Codebook entries. (K, D)
        draws: A uniform number for each vector. (N,) float64
        temperature: What scores are divided by.

    Returns:
        Indices. (N,) int64
    """
    indices = torch.empty(len(z), dtype=torch.int64, device=z.device)
    for rows, scores in scores_in_chunks(z, entries):
        scores.sub_(scores.amax(-1, keepdim=True)).mul_(1 / temperature)  # never all infinite
        chances = scores.double().softmax(-1).cumsum_(-1)
        wanted = draws[rows].unsqueeze(1) * chances[:, -1:]
        indices[rows] = torch.searchsorted(chances, wanted, right=True).squeeze(1)
    return indices.clamp_(max=len(entries) - 1)


@drawn.register_fake
def _(z: Tensor, entries: Tensor, draws: Tensor, temperature: float) -> Tensor:
    return z.new_empty(len(z), dtype=torch.int64)


@torch.library.custom_op("vqkit::taken", mutates_args=())
def taken(z: Tensor, entries: Tensor, real: Tensor, scale: Tensor, prices: Tensor) -> Tensor:
    """How much of the vectors each entry gets if they share them by softmax(scale score + price).

    Args:
        z: Vectors. (N, D)
        entries: Codebook entries. (K, D)
        real: False at padding. (N,) bool
        scale: What scores are multiplied by. ()
        prices: What is added. (K,)

    Returns:
        (K,) float64
    """
    total = prices.new_zeros(len(entries), dtype=torch.float64)
    for rows, scores in scores_in_chunks(z, entries):
        shares = scores.mul_(scale).add_(prices).softmax(-1)
        total += shares.mul_(real[rows].unsqueeze(1)).sum(0)
    return total


@taken.register_fake
def _(z: Tensor, entries: Tensor, real: Tensor, scale: Tensor, prices: Tensor) -> Tensor:
    return prices.new_empty(len(entries), dtype=torch.float64)


@torch.library.custom_op("vqkit::best_priced", mutates_args=())
def best_priced(z: Tensor, entries: Tensor, scale: Tensor, prices: Tensor) -> Tensor:
    """The entry of the largest scale score + price, arguments as for ``taken``. (N,) int64

    The lowest index of those that rounding cannot tell apart, such as copies: which of them comes
    out largest depends on how many rows a product has.
    """
    indices = torch.empty(len(z), dtype=torch.int64, device=z.device)
    for rows, scores in scores_in_chunks(z, entries):
        priced = scores.mul_(scale).add_(prices)
        low, high = priced.aminmax(dim=-1, keepdim=True)
        largest = torch.maximum(low.abs(), high.abs()) + prices.abs().amax()
        near = ROUNDINGS * torch.finfo(priced.dtype).eps * largest
        indices[rows] = (priced >= high - near).byte().argmax(-1)
    return indices


@best_priced.register_fake
def _(z: Tensor, entries: Tensor, scale: Tensor, prices: Tensor) -> Tensor:
    return z.new_empty(len(z), dtype=torch.int64)
