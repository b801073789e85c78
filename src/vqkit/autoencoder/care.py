"""Care of the codebooks of an autoencoder that is trained: refit them, prune them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vqkit.quantizers.checks import checked_batch
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.refit import Batches, check_rereadable
from vqkit.quantizers.usage import in_use

if TYPE_CHECKING:
    from vqkit.autoencoder.model import VQVAE


@dataclass(frozen=True, slots=True)
class LevelInputs:
    """What a level quantizes, batch by batch, read anew each time.

    Attributes:
        model: The autoencoder.
        batches: Items.
        level: Which, 0 for the coarsest.
    """

    model: VQVAE
    batches: Batches
    level: int

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None]]:
        for batch in self.batches:
            yield self.model.inputs(*checked_batch(batch), level=self.level)


def refit(model: VQVAE, batches: Batches, passes: int = 10) -> dict[str, tuple[float, ...]]:
    """Moves entries to the means of their vectors over a data set, while the networks stay.

    Level by level, the coarsest first: finer levels see what the coarser ones became. Afterwards
    the decoder reads vectors that it was not trained with: they are nearer to the encoder's.

    Args:
        model: Whose codebooks are changed, and nothing else.
        batches: Items (B, C, *grid) of this rank, alone or with masks (B, *grid). They are read
            for each codebook ``passes`` + 1 times at most.
        passes: Number of passes.

    Returns:
        For each of ``codebooks``, the mean squared error over its vectors and their coordinates:
        before the first pass, and after each.

    Raises:
        ValueError: If there is nothing to move, or levels share a codebook.
    """
    check_rereadable(batches)
    books = [set(quantizer.codebooks()) for quantizer in model.quantizers]
    if sum(map(len, books)) > len(set().union(*books)):
        raise ValueError("levels share a codebook, and no pass sees all of its vectors")
    found = {}
    for level, quantizer in enumerate(model.quantizers):
        if quantizer.codebooks():
            errors = quantizer.refit(LevelInputs(model, batches, level), passes=passes)
            found |= dict(zip(quantizer.codebooks(), errors, strict=True))
    if not found:
        raise ValueError("the model has no learned codebook; there is nothing to refit")
    return {name: found[book] for name, book in model.codebooks().items()}


@torch.no_grad()
def prune(model: VQVAE, used: Mapping[str, Tensor] | None = None) -> dict[str, Tensor]:
    """Removes entries that nobody uses; what the others stand for stays, bit for bit.

    An optimizer that moves the entries has to be made anew, and a prior of the old codes is one of
    other codes.

    Args:
        model: Whose codebooks are pruned.
        used: Which entries of a codebook stay, (K,) bool, by the names of ``codebooks``; those
            that are not named keep all. None for those in use, as ``Codebook.usage`` counts.

    Returns:
        For each codebook, the new index of each old entry: ``remap[indices]``. One that was
        removed becomes the nearest of those that stay. Each (K,) int64

    Raises:
        ValueError: If there is no such codebook, or fewer than 2 entries would stay; nothing has
            changed then.
    """
    books = model.codebooks()
    if used is not None and not used.keys() <= books.keys():
        names = ", ".join(sorted(used.keys() - books.keys()))
        raise ValueError(f"used names {names}; the codebooks are {', '.join(books) or 'none'}")
    kept: dict[Codebook, Tensor] = {}
    for name, book in books.items():
        if used is None:
            mine = in_use(book.average_counts, book.unused_for)
        else:
            mine = used.get(name, torch.ones_like(book.unused_for, dtype=torch.bool))
            book.check_used(mine)
        kept[book] = kept[book] | mine if book in kept else mine  # it may have several names
    for book, mine in kept.items():
        book.check_used(mine)
    remaps = {book: book.prune(mine) for book, mine in kept.items()}
    return {name: remaps[book] for name, book in books.items()}
