"""Examples: what training, encoding and evaluation read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vqkit.data.record import numbered_id

Values = Tensor | np.ndarray


@dataclass(frozen=True, slots=True)
class Example:
    """One decoded item.

    Attributes:
        x: Values; channels first where there are channels. (...)
        label: Number of its class; None without labels.
        mask: True where a position of ``x`` is real; None when all are. (...) bool
    """

    x: Tensor
    label: int | None = None
    mask: Tensor | None = None


@runtime_checkable
class Examples(Protocol):
    """A number of examples with random access.

    They may also have ``labels`` (names of the classes), ``fingerprint`` (changes when the data
    do), ``id(index)`` (a name), ``describe(index)`` (where an item is, for messages) and
    ``lengths`` (how long each is: batches are then of items of like lengths).
    """

    def __len__(self) -> int: ...

    def example(self, index: int, seed: int | None = None) -> Example:
        """The item at ``index``; the same (index, seed) gives the same example everywhere.

        Args:
            index: At least 0 and less than the length.
            seed: Chooses the random changes of augmentation; None: no augmentation.
        """
        ...


def lengths_of(examples: Examples) -> Sequence[int] | None:
    """How long each item is; None where the examples do not tell, or all are as long."""
    return getattr(examples, "lengths", None)


class TensorExamples:
    """Examples that are in memory already, for people who train from Python.

    Args:
        items: A tensor or array whose first axis is items (N, ...), or a sequence of tensors or of
            (tensor, label) pairs. Items of unequal length are padded and masked in batches.
        labels: Names of the classes; their numbers as text when left out.

    Raises:
        TypeError: If an item is neither a tensor nor an array.
        ValueError: If there are no items, only some have labels, or there are too few names.
    """

    def __init__(
        self,
        items: Values | Sequence[Values] | Sequence[tuple[Values, int]],
        *,
        labels: Sequence[str] | None = None,
    ) -> None:
        if not len(items):
            raise ValueError("items is empty; give at least one tensor")
        self._classes: list[int] | None = None
        self._items: Values | list[Values]
        if isinstance(items, Tensor | np.ndarray):
            self._items = items
        else:
            self._items, self._classes = _unzip(items)
        count = 1 + max(self._classes, default=-1) if self._classes else 0
        self.labels = tuple(labels or map(str, range(count)))
        if len(self.labels) < count:
            raise ValueError(f"labels has {len(self.labels)} names, the items {count} classes")

    def __len__(self) -> int:
        return len(self._items)

    def example(self, index: int, seed: int | None = None) -> Example:
        """The item at ``index``, never augmented."""
        x = self._items[index]
        if isinstance(x, np.ndarray | np.generic):
            x = torch.from_numpy(np.array(x))
        return Example(x, self._classes[index] if self._classes else None)

    def id(self, index: int) -> str:
        """The number of the item, as text."""
        return numbered_id(index, len(self))

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of all shapes, types, values and labels."""
        digest = hashlib.sha256()
        for index in range(len(self)):
            item = self.example(index)
            x = item.x.detach().cpu().contiguous()
            digest.update(f"{tuple(x.shape)} {x.dtype} {item.label}\n".encode())
            digest.update(x.flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()


def _unzip(
    items: Sequence[Values] | Sequence[tuple[Values, int]],
) -> tuple[list[Values], list[int] | None]:
    """The values of all items, and their labels if all have one."""
    values: list[Values] = []
    labels: list[int] = []
    for item in items:
        x, *label = item if isinstance(item, tuple) else (item,)
        if not isinstance(x, Tensor | np.ndarray) or len(label) > 1:
            kind = type(x).__name__
            raise TypeError(f"an item is {kind}; give tensors, or pairs of a tensor and a label")
        values.append(x)
        labels += [int(number) for number in label if number is not None]
    if labels and len(labels) < len(values):
        raise ValueError("some items have a label and some have none; label all or none")
    if labels and min(labels) < 0:
        raise ValueError(f"a label is {min(labels)}; give 0 or more, or pairs without labels")
    return values, labels or None
