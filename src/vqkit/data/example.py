"""Examples: what training, encoding and evaluation read."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

Item = Tensor | np.ndarray | tuple[Tensor | np.ndarray, int | None]


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

    Implementations may also have ``labels`` (names of the classes), ``fingerprint``, ``id(index)``
    and ``describe(index)``, which names an item in messages.
    """

    def __len__(self) -> int: ...

    def example(self, index: int, seed: int | None = None) -> Example:
        """The item at ``index``; the same (index, seed) gives the same example everywhere.

        Args:
            index: At least 0 and less than the length.
            seed: Chooses the random changes of augmentation; None: no augmentation.
        """
        ...


class TensorExamples:
    """Examples that are in memory already, for people who train from Python.

    Args:
        items: A tensor or array whose first axis is items (N, ...), or a sequence of tensors or of
            (tensor, label) pairs. Items of unequal length are padded and masked in batches.
        labels: Names of the classes; their numbers as text when left out.

    Raises:
        ValueError: If there are no items, or only some have labels.
    """

    def __init__(
        self, items: Tensor | np.ndarray | Sequence[Item], *, labels: Sequence[str] | None = None
    ) -> None:
        self._items = [_pair(item) for item in cast(Sequence[Item], items)]
        if not self._items:
            raise ValueError("items is empty; give at least one tensor")
        numbers = {label for _, label in self._items}
        if None in numbers and len(numbers) > 1:
            raise ValueError("some items have a label and some have none; label all or none")
        found = sorted(number for number in numbers if number is not None)
        if found and found[0] < 0:
            raise ValueError(f"a label is {found[0]}; labels are 0 or more, None is no label")
        count = found[-1] + 1 if found else 0
        self.labels = tuple(labels or map(str, range(count)))
        if len(self.labels) < count:
            raise ValueError(f"labels has {len(self.labels)} names, the items {count} classes")

    def __len__(self) -> int:
        return len(self._items)

    def example(self, index: int, seed: int | None = None) -> Example:
        """The item at ``index``, never augmented."""
        x, label = self._items[index]
        return Example(x, label)

    def id(self, index: int) -> str:
        """The number of the item, as text."""
        return f"{index:0{len(str(len(self) - 1))}d}"

    @property
    def fingerprint(self) -> str:
        """Hexadecimal hash of all shapes, types, values and labels."""
        digest = hashlib.sha256()
        for x, label in self._items:
            digest.update(f"{tuple(x.shape)} {x.dtype} {label}\n".encode())
            digest.update(x.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.hexdigest()


def _pair(item: Item) -> tuple[Tensor, int | None]:
    """An item as a tensor and its label."""
    x, label = item if isinstance(item, tuple) else (item, None)
    if not isinstance(x, Tensor | np.ndarray):
        raise TypeError(f"an item is {type(x).__name__}; give tensors or (tensor, label) pairs")
    return torch.as_tensor(x), None if label is None else int(label)
