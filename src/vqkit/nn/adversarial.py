"""What discriminators say of real and of decoded items, and the losses that follow from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """What one discriminator makes of items, layer by layer.

    Attributes:
        layers: Features; those of the last layer are its verdicts: near 1 for what seems real, near
            0 for what does not. Each (B, R, C, T): R rows of T places.
        real: Where they stand for anything real. Each (B, R or 1, T) bool
    """

    layers: tuple[Tensor, ...]
    real: tuple[Tensor, ...]

    @property
    def verdicts(self) -> Tensor:
        """The last layer. (B, R, 1, T)"""
        return self.layers[-1]


def judging_loss(real: Sequence[Heard], decoded: Sequence[Heard]) -> Tensor:
    """What discriminators lose by each item and its reconstruction.

    Least Squares Generative Adversarial Networks, equation 2 with a = 0 and b = c = 1,
    https://arxiv.org/abs/1611.04076

    Args:
        real: What each makes of real items.
        decoded: What each makes of decoded ones.

    Returns:
        The mean over discriminators. (B,)
    """
    losses = [
        item_mean((1 - x.verdicts).square() + y.verdicts.square(), x.real[-1])
        for x, y in zip(real, decoded, strict=True)
    ]
    return torch.stack(losses).mean(0)


def fooling_loss(decoded: Sequence[Heard]) -> Tensor:
    """What a decoder loses by each item that does not seem real: a mean over all. (B,)"""
    losses = [item_mean((1 - y.verdicts).square(), y.real[-1]) for y in decoded]
    return torch.stack(losses).mean(0)


def feature_loss(real: Sequence[Heard], decoded: Sequence[Heard]) -> Tensor:
    """How far features of decoded items are from those of the real ones, as a share of these.

    HiFi-GAN, equation 8, https://arxiv.org/abs/2010.05646

    Returns:
        The mean over discriminators and their layers but the last. (B,)
    """
    losses = []
    for x, y in zip(real, decoded, strict=True):
        for one, other, mask in zip(x.layers[:-1], y.layers[:-1], x.real[:-1], strict=True):
            size = item_mean(one.abs(), mask).clamp(min=1e-6)
            losses.append(item_mean((one - other).abs(), mask) / size)
    return torch.stack(losses).mean(0)


def item_mean(values: Tensor, real: Tensor) -> Tensor:
    """The mean of each item over its real places.

    Args:
        values: (B, R, C, T)
        real: (B, R or 1, T) bool

    Returns:
        0 where nothing is real. (B,)
    """
    weights = real.unsqueeze(2).expand_as(values)
    total = values.masked_fill(~weights, 0).flatten(1).sum(1)
    return total / weights.flatten(1).sum(1).clamp(min=1)


def balanced(losses: Tensor, x: Tensor, gradient: Tensor, wanted: Tensor) -> Tensor:
    """Losses of items with the gradient scaled to a length that is wanted, item by item.

    High Fidelity Neural Audio Compression, equation 5, https://arxiv.org/abs/2210.13438: the weight
    of a loss says what share of the gradient is its own, however steep it is. Each item is balanced
    alone, so that nothing depends on how a batch is split.

    Args:
        losses: (B,)
        x: What they are losses of. (B, ...)
        gradient: That of each by x, of any length. (B, ...)
        wanted: Length that it shall have. (B,)

    Returns:
        The losses' values, with that gradient by x, and by nothing else. (B,)
    """
    length = gradient.flatten(1).norm(dim=1).clamp(min=1e-12)
    scaled = gradient * (wanted / length).view(-1, *[1] * (x.dim() - 1))
    along = (x * scaled.detach()).flatten(1).sum(1)
    return losses.detach() + along - along.detach()
