"""New images out of priors, part by part, shared by the processes."""

from collections.abc import Iterator

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE, new_items
from vqkit.distributed import rank, world_size
from vqkit.modalities.image.pictures import to_uint8
from vqkit.priors import Conditioning, Prior


def share(num: int) -> tuple[int, int]:
    """Which of so many items are this rank's: the first, and the one after the last."""
    return num * rank() // world_size(), num * (rank() + 1) // world_size()


@torch.no_grad()
def draws(
    prior: Prior, tokenizer: VQVAE, num: int, *, seed: int, batch_size: int, guidance: float = 1.0
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """This rank's share of new images, which depend on (seed, number) alone.

    Args:
        prior: At temperature 1. Its classes, if it has any, take turns.
        tokenizer: On the device of the prior.
        num: Number of images of all ranks.
        seed: Of all draws.
        batch_size: Images drawn at once.
        guidance: How much more than without it the class counts.

    Returns:
        Images as files would hold them, (B, C, H, W) uint8, and their classes, (B,) int64 or None.
    """
    begin, end = share(num)
    device = prior.slot_sizes.device
    for first in range(begin, end, batch_size):
        numbers = torch.arange(first, min(first + batch_size, end), device=device)
        labels = None if prior.num_classes is None else numbers % prior.num_classes
        given = Conditioning(labels)
        codes = prior.sample(len(numbers), given, seed=seed, first=first, guidance=guidance)
        yield to_uint8(new_items(tokenizer, codes, seed=seed, first=first)), labels


@torch.no_grad()
def first_draws(
    prior: Prior, tokenizer: VQVAE, num: int, *, seed: int, guidance: float = 1.0
) -> Tensor:
    """The first of the images that ``draws`` draws, on every rank. (N, C, H, W) uint8"""
    device = prior.slot_sizes.device
    labels = None
    if prior.num_classes is not None:
        labels = torch.arange(num, device=device) % prior.num_classes
    codes = prior.sample(num, Conditioning(labels), seed=seed, guidance=guidance)
    return to_uint8(new_items(tokenizer, codes, seed=seed)).cpu()
