"""Classes: numbers inside, names outside."""

from collections.abc import Sequence

from vqkit.data.record import Record, Source


def number_classes(values: Sequence[int] | Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Names of the classes, and the class of each item.

    Args:
        values: The label of each item, all numbers or all text.

    Returns:
        Names in the order of the values, and for each item the position of its name.
    """
    order = {value: position for position, value in enumerate(sorted(set(values)))}
    return tuple(str(value) for value in order), [order[value] for value in values]


def join_classes(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """The names of two splits: those of the first as they are, then what only the second has."""
    known = set(first)
    return (*first, *(name for name in second if name not in known))


class Relabelled:
    """A source whose classes are numbered by another list of names.

    Args:
        source: What is read.
        labels: Names that include all of the source's.
    """

    def __init__(self, source: Source, labels: Sequence[str]) -> None:
        self.source = source
        self.labels = tuple(labels)
        self._numbers = [self.labels.index(name) for name in source.labels]

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        return self.source.item_shape

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> Record:
        return Record(self.id(index), self.source[index].value, self.label(index))

    def id(self, index: int) -> str:
        return self.source.id(index)

    def label(self, index: int) -> int | None:
        label = self.source.label(index)
        return None if label is None else self._numbers[label]

    def describe(self, index: int) -> str:
        return self.source.describe(index)
