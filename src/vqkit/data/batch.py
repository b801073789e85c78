"""Batches of examples."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.data.example import Example


@dataclass(frozen=True, slots=True)
class Batch:
    """Examples side by side.

    Attributes:
        x: Values, uint8 or floating; zero where masked. (B, ...)
        mask: True where a position of ``x`` is real; None when all are. (B, ...) bool
        labels: Number of each item's class; None without labels. (B,) int64
        positions: Place of each item in the global batch. (B,) int64
    """

    x: Tensor
    mask: Tensor | None
    labels: Tensor | None
    positions: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> "Batch":
        """The same batch on a device."""
        moved = [
            None if tensor is None else tensor.to(device, non_blocking=non_blocking)
            for tensor in (self.x, self.mask, self.labels, self.positions)
        ]
        return Batch(*moved)  # pyright: ignore[reportArgumentType]

    def pin_memory(self) -> "Batch":
        """The same batch in memory that a GPU can fetch from while the CPU goes on."""
        pinned = [
            None if tensor is None else tensor.pin_memory()
            for tensor in (self.x, self.mask, self.labels, self.positions)
        ]
        return Batch(*pinned)  # pyright: ignore[reportArgumentType]


def collate(examples: Sequence[Example], positions: Sequence[int]) -> Batch:
    """Joins examples; those of unequal lengths are padded with zeros at the end, and masked.

    An ``x`` of one axis has only positions; of more, its first axis is channels, which share a
    mask: images (C, H, W) have masks (H, W).

    Args:
        examples: At least one, with equal numbers of axes.
        positions: Place of each in the global batch.

    Raises:
        ValueError: If types, channels or numbers of axes differ, or only some have labels.
    """
    if not examples:
        raise ValueError("examples is empty; give at least one")
    xs = [example.x for example in examples]
    if len({(x.dtype, x.dim()) for x in xs}) > 1 or len({_channels(x) for x in xs}) > 1:
        found = sorted({f"{tuple(x.shape)} {x.dtype}" for x in xs})
        raise ValueError(f"examples of {found[0]} and {found[1]} cannot be joined; make them alike")
    place = torch.tensor(positions, dtype=torch.int64)
    return Batch(_join(xs), _join_masks(examples), _join_labels(examples), place)


def _channels(x: Tensor) -> int:
    return 1 if x.dim() <= 1 else x.shape[0]


def _grid(x: Tensor) -> torch.Size:
    """The axes of ``x`` that are positions."""
    return x.shape if x.dim() <= 1 else x.shape[1:]


def _join(tensors: Sequence[Tensor]) -> Tensor:
    """Tensors of equal numbers of axes, padded with zeros at the end. (B, ...)"""
    if all(tensor.shape == tensors[0].shape for tensor in tensors):
        return torch.stack(list(tensors))
    longest = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
    joined = tensors[0].new_zeros(len(tensors), *longest)
    for row, tensor in zip(joined, tensors, strict=True):
        row[tuple(slice(size) for size in tensor.shape)] = tensor
    return joined


def _join_masks(examples: Sequence[Example]) -> Tensor | None:
    """The masks of a batch; None when every position is real. (B, ...) bool"""
    ragged = any(example.x.shape != examples[0].x.shape for example in examples)
    if not ragged and all(example.mask is None for example in examples):
        return None
    masks = []
    for example in examples:
        grid = _grid(example.x)
        mask = torch.ones(grid, dtype=torch.bool) if example.mask is None else example.mask
        if mask.shape != grid:
            shapes = f"{tuple(mask.shape)}, its positions are {tuple(grid)}"
            raise ValueError(f"mask has shape {shapes}; give one element per position")
        masks.append(mask)
    return _join(masks)


def _join_labels(examples: Sequence[Example]) -> Tensor | None:
    """The labels of a batch; None when there are none. (B,) int64"""
    labels = [example.label for example in examples if example.label is not None]
    if not labels:
        return None
    if len(labels) < len(examples):
        raise ValueError("some examples have a label and some have none; label all or none")
    return torch.tensor(labels, dtype=torch.int64)
