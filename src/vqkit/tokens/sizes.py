"""Batches and items without padding."""

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor, nn

from vqkit.codes import Codes
from vqkit.data import Batch, Examples, lengths_of


def alike(examples: Examples, indices: Sequence[int]) -> Sequence[int]:
    """Items in an order that has those of one length together, where the examples tell lengths.

    Args:
        examples: Maybe with ``lengths``, one for each.
        indices: Which items.

    Returns:
        The same; items of one length in the order they were in.
    """
    lengths = lengths_of(examples)
    return indices if lengths is None else sorted(indices, key=lengths.__getitem__)


def by_size(batch: Batch) -> Iterator[Batch]:
    """The items of a batch, those of one size together and without padding.

    An item in a larger frame sees the frame at its border, so that its codes would depend on the
    other items of the batch.

    Returns:
        Batches that have a mask only where an item has holes; ``positions`` are those of the
        items.
    """
    if batch.mask is None:
        yield batch
        return
    sizes = [extent(mask) for mask in batch.mask]
    for size in dict.fromkeys(sizes):
        places = [place for place, other in enumerate(sizes) if other == size]
        box = tuple(slice(length) for length in size)
        mask = batch.mask[(places, *box)]
        labels = None if batch.labels is None else batch.labels[places]
        real = None if mask.all() else mask
        yield Batch(batch.x[(places, ..., *box)], real, labels, batch.positions[places])


def extent(mask: Tensor) -> tuple[int, ...]:
    """Lengths of the smallest box from the origin that holds all that is real, at least 1 each.

    Args:
        mask: True where a position is real. (*grid) bool
    """
    places = mask.nonzero()
    return tuple((places.amax(0) + 1).tolist()) if len(places) else (1,) * mask.dim()


def cropped(items: Tensor, codes: Codes, encoder: nn.Module | None = None) -> list[Tensor]:
    """Decoded items one by one, without what there are no codes for.

    Args:
        items: What a decoder made of the codes. (B, C, *grid)
        codes: Whose finest level says by its mask how far each item goes.
        encoder: Of such items; one whose codes are not equal shares of an item says by a method
            ``spread(cells)`` what each stands for, (B, *grid) to (B, *input grid).

    Returns:
        Each (C, *own grid)
    """
    mask, grid = codes.levels[-1].mask, items.shape[2:]
    if mask is None or mask.dim() - 1 != len(grid):
        return list(items)
    spread: Any = getattr(encoder, "spread", None)
    if spread is not None:
        sizes = [extent(each) for each in spread(mask)]
        return [x[(..., *map(slice, size))] for x, size in zip(items, sizes, strict=True)]
    shares = [length // places for length, places in zip(grid, mask.shape[1:], strict=True)]
    sizes = [
        [places * share for places, share in zip(extent(each), shares, strict=True)]
        for each in mask
    ]
    return [x[(..., *map(slice, size))] for x, size in zip(items, sizes, strict=True)]
