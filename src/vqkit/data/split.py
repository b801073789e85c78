"""Parts of a source: chosen items, and seeded splits."""

from collections.abc import Sequence

import torch

from vqkit.data.record import Record, Source
from vqkit.random import generator


class Subset:
    """Some items of a source, numbered anew.

    Args:
        source: What is read.
        indices: Numbers of the chosen items.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = torch.as_tensor(indices, dtype=torch.int64)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.source.labels

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        return self.source.item_shape

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[int(self.indices[index])]

    def describe(self, index: int) -> str:
        return self.source.describe(int(self.indices[index]))


def split(num_items: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the items for training and for evaluation: a pure function of its arguments.

    Args:
        num_items: Number of items n.
        fraction: Share of the evaluation, more than 0 and less than 1; rounded, at least one item.
        seed: Chooses the items.

    Returns:
        Two ascending lists that together have every number once, neither empty.

    Raises:
        ValueError: If the fraction is out of range, or there are fewer than two items.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"eval_fraction is {fraction}; give more than 0 and less than 1")
    if num_items < 2:
        raise ValueError(
            f"there are {num_items} items; a split needs at least 2: add data, or give eval_path"
        )
    size = min(max(1, round(fraction * num_items)), num_items - 1)
    order = torch.randperm(num_items, generator=generator(seed)).tolist()
    return sorted(order[size:]), sorted(order[:size])
