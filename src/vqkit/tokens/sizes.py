"""Batches without padding."""

from collections.abc import Iterator, Sequence

from torch import Tensor

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
