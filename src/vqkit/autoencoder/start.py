"""Vectors to start the codebooks from: of several batches, and of all ranks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vqkit import distributed, random
from vqkit.autoencoder.hierarchy import padding_of
from vqkit.quantizers.base import Quantizer, real_rows
from vqkit.quantizers.gathering import framed, joined_items

if TYPE_CHECKING:
    from vqkit.autoencoder.model import VQVAE

MAX_VECTORS = 262_144  # 64 MB at D = 64, and several hundred for each entry of usual codebooks


def start_model(
    model: VQVAE,
    batches: Sequence[tuple[Tensor, Tensor | None]],
    *,
    seed: int,
    keep_started: bool,
) -> None:
    """Starts the objective and the codebooks of a model from data; every rank must call it.

    Raises:
        ValueError: If there are no batches, or a codebook has more entries than they have vectors.
    """
    if not batches:
        raise ValueError("there are no batches to start from; give at least one")
    model.objective.observe(real_inputs(model, batches))
    for level, quantizer in enumerate(model.quantizers):
        if keep_started and quantizer.is_started:
            continue
        found = (model.inputs(x, mask, level=level) for x, mask in batches)
        inputs = joined_inputs(quantizer, found, len(batches), seed)
        own = random.hash_int(seed, level)
        start(quantizer, *inputs, seed=own, keep_started=keep_started)


def real_inputs(model: VQVAE, batches: Iterable[tuple[Tensor, Tensor | None]]) -> Iterator[Tensor]:
    """The values of items as the encoder reads them, where they are real."""
    for x, mask in batches:
        if mask is not None:
            x = x.masked_fill(padding_of(x, mask), 0)
        yield real_values(model.objective.normalize(x), mask)


def real_values(x: Tensor, mask: Tensor | None) -> Tensor:
    """The items themselves, or their real positions alone.

    Args:
        x: Items. (B, C, *grid)
        mask: True where x is real; None when all is. (B, *grid) bool

    Returns:
        (B, C, *grid), or (N, C) of the N real positions.
    """
    return x if mask is None else x.movedim(1, -1)[mask]


def joined_inputs(
    quantizer: Quantizer,
    inputs: Iterable[tuple[Tensor, Tensor | None]],
    num_batches: int,
    seed: int,
) -> tuple[Tensor, Tensor | None]:
    """What a quantizer starts from: real vectors, or whole items where it reads their grid.

    Args:
        quantizer: What shall start.
        inputs: What this rank gives it, and where that is real. Each (B, *grid, D), (B, *grid) bool
        num_batches: How many there are, at least 1, on every rank.
        seed: What the choice depends on.

    Returns:
        The same on every rank: (N, D) and None, or (N, *grid, D) and (N, *grid) bool.
    """
    if quantizer.reads_grid:
        return whole_items(inputs, num_batches, seed)
    return joined_vectors((real_rows(*pair) for pair in inputs), num_batches, seed), None


def whole_items(
    inputs: Iterable[tuple[Tensor, Tensor | None]], num_batches: int, seed: int
) -> tuple[Tensor, Tensor]:
    """The items of all batches and ranks in one frame, thinned out evenly if they are too many."""
    kept: list[tuple[Tensor, Tensor]] = []
    for number, batch in enumerate(inputs):
        z_e, real = joined_items(*batch)
        limit = max(1, MAX_VECTORS // num_batches // max(1, real[:1].numel()))
        rows = thinned(len(z_e), limit, seed, number, device=z_e.device)
        kept.append((z_e[rows], real[rows]))
    grid = [max(lengths) for lengths in zip(*(real.shape[1:] for _, real in kept), strict=True)]
    z_e, real = zip(*(framed(*pair, grid) for pair in kept), strict=True)
    return torch.cat(z_e), torch.cat(real)


def joined_vectors(batches: Iterable[Tensor], num_batches: int, seed: int) -> Tensor:
    """The vectors of all batches and ranks, thinned out evenly if they are too many.

    Args:
        batches: Vectors of this rank; every rank has as many batches. Each (N, D)
        num_batches: How many batches there are, at least 1.
        seed: What the choice of vectors depends on.

    Returns:
        The same on every rank, as one process would have them on the joined batches. (N, D)
    """
    limit = max(1, MAX_VECTORS // num_batches)
    kept: list[Tensor] = []
    for number, batch in enumerate(batches):
        vectors = distributed.gather_rows(batch)
        kept.append(vectors[thinned(len(vectors), limit, seed, number, device=vectors.device)])
    return torch.cat(kept)


def thinned(num: int, limit: int, *words: int, device: torch.device) -> Tensor | slice:
    """At most so many of ``num`` rows, chosen at random by the words and in order."""
    if num <= limit:
        return slice(None)
    order = random.uniform(*words, torch.arange(num, device=device)).argsort()
    return order[:limit].sort().values


def start(
    quantizer: Quantizer,
    z_e: Tensor,
    mask: Tensor | None,
    *,
    seed: int,
    keep_started: bool = False,
) -> None:
    """Starts a quantizer from what ``joined_inputs`` gave; see ``Quantizer.initialize``.

    Raises:
        ValueError: If a codebook has more entries than there are vectors to start from.
    """
    num_vectors = len(z_e) if mask is None else int(mask.sum())
    books = [b for b in quantizer.codebooks() if not (keep_started and b.is_initialized)]
    largest = max((book.size for book in books), default=0)
    if num_vectors < largest:
        raise ValueError(
            f"codebook_size is {largest}, but there are {num_vectors} vectors to start from; "
            "lower codebook_size, or give more data"
        )
    quantizer.initialize(z_e, mask, seed=seed, keep_started=keep_started)
