"""New images out of priors, part by part, shared by the processes."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE, new_items
from vqkit.distributed import rank, world_size
from vqkit.drawing import PLAIN, Drawing
from vqkit.priors import Conditioning, Prior
from vqkit.tokens.sizes import cropped


def share(num: int) -> tuple[int, int]:
    """Which of so many items are this rank's: the first, and the one after the last."""
    return num * rank() // world_size(), num * (rank() + 1) // world_size()


def labels_like(labels: Tensor, num: int) -> Tensor:
    """So many labels, each class as frequent as among others, the classes in turn.

    Args:
        labels: The others, at least one. (M,) int64
        num: Number N of labels.

    Returns:
        (N,) int64
    """
    numbers = torch.arange(num, device=labels.device)
    found = labels.sort().values[(2 * numbers + 1) * len(labels) // (2 * num)]
    counts = found.bincount()
    within = numbers - (counts.cumsum(0) - counts)[found]  # which one of its class each is
    return found[((within + 0.5) / counts[found]).argsort(stable=True)]


@torch.no_grad()
def draws(
    prior: Prior,
    tokenizer: VQVAE,
    num: int,
    labels: Tensor | None = None,
    *,
    seed: int,
    batch_size: int,
    how: Drawing = PLAIN,
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """This rank's share of new images, which depend on (seed, number) and their class alone.

    Args:
        prior: What their codes are drawn from.
        tokenizer: What makes images of the codes, on the same device.
        num: Number of images of all ranks.
        labels: The class of each, for a prior that is told classes; None for all in turn. (num,)
        seed: Of all draws.
        batch_size: Images drawn at once.
        how: Integers are drawn.

    Returns:
        Images as files would hold them, those of one size together, (B, C, H, W) uint8, and their
        classes, (B,) int64 or None.
    """
    device = prior.slot_sizes.device
    begin, end = share(num)
    for first in range(begin, end, batch_size):
        numbers = torch.arange(first, min(first + batch_size, end), device=device)
        own = None
        if prior.num_classes is not None:
            own = numbers % prior.num_classes if labels is None else labels.to(device)[numbers]
        given = Conditioning(own)
        codes = prior.sample(len(numbers), given, seed=seed, first=first, **how.settings())
        items = new_items(tokenizer, codes, seed=seed, first=first)
        stored = tokenizer.objective.modality.stored(items)
        for places in alike(whole := cropped(stored, codes, tokenizer.encoder)):
            same = torch.stack([whole[place] for place in places])
            yield same, None if own is None else own[places]


def alike(items: Sequence[Tensor]) -> list[list[int]]:
    """The places of items of each size, in order of the first of each."""
    found: dict[torch.Size, list[int]] = {}
    for place, item in enumerate(items):
        found.setdefault(item.shape, []).append(place)
    return list(found.values())


@torch.no_grad()
def first_draws(
    prior: Prior,
    tokenizer: VQVAE,
    num: int,
    labels: Tensor | None = None,
    *,
    seed: int,
    how: Drawing = PLAIN,
) -> list[Tensor]:
    """The first of the images that ``draws`` draws, on every rank. Each (C, H, W) uint8"""
    given = Conditioning()
    if prior.num_classes is not None:
        numbers = torch.arange(num, device=prior.slot_sizes.device)
        own = numbers % prior.num_classes if labels is None else labels.to(numbers.device)[:num]
        given = Conditioning(own)
    codes = prior.sample(num, given, seed=seed, **how.settings())
    items = new_items(tokenizer, codes, seed=seed)
    stored = tokenizer.objective.modality.stored(items).cpu()
    return cropped(stored, codes.to("cpu"), tokenizer.encoder)
