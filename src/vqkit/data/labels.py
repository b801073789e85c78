"""Classes: numbers inside, names outside."""

from collections.abc import Sequence

from vqkit.data.record import Record, Source


def number_classes(values: Sequence[int] | Sequence[str]) -> tuple[tuple[str, ...], list[int]]:
    """Names of the classes in their order, and the class of each item.

    Args:
        values: The label of each item; numbers are put in order as numbers, text as text.

    Returns:
        Names, and for each item the position of its name.
    """
    order = {value: position for position, value in enumerate(sorted(set(values)))}
    return tuple(str(value) for value in order), [order[value] for value in values]


def join_classes(first: Sequence[str], second: Sequence[str]) -> tuple[str, ...]:
    """The names of two splits: those of the first as they are, then what only the second has."""
    return (*first, *(name for name in second if name not in set(first)))


class Relabelled:
    """A source whose classes are numbered by another list of names.

    Args:
        source: What is read.
        labels: Names that include all of the source's.
    """

    def __init__(self, source: Source, labels: Sequence[str]) -> None:
        self._source = source
        self.labels = tuple(labels)
        self._numbers = [self.labels.index(name) for name in source.labels]

    @property
    def fingerprint(self) -> str:
        return self._source.fingerprint

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        return self._source.item_shape

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> Record:
        record = self._source[index]
        label = None if record.label is None else self._numbers[record.label]
        return Record(record.id, record.value, label)

    def describe(self, index: int) -> str:
        return self._source.describe(index)
