"""The items of a run: decoded, split, and without those that cannot be read."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import numpy as np

from vqkit.data.example import Examples
from vqkit.data.record import Source
from vqkit.data.split import split
from vqkit.data.survey import open_index

INDEX, EVAL_INDEX = "index.json", "index-evaluation.json"


class Items(Examples, Protocol):
    """Examples made of the records of a source, with names, classes and places."""

    @property
    def source(self) -> Source:
        """What is read."""
        ...

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty when the items have none."""
        ...

    @property
    def numbers(self) -> Sequence[int]:
        """The items of the source that these are, in order."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal; changes when the data, their choice or their decoding do."""
        ...

    def id(self, index: int) -> str:
        """The name of an item, different from all others."""
        ...

    def describe(self, index: int) -> str:
        """Where an item is, for messages."""
        ...

    def part(self, numbers: Sequence[int], *, augment: bool = False) -> Any:
        """Some items of the same source, decoded alike; what is in memory stays there."""
        ...


class Chosen:
    """Some items of a source: all that is the same of them, whatever they are.

    Args:
        source: What is read.
        numbers: The items of the source that count, in order; at least one.
        items: What they are called.

    Raises:
        ValueError: If there are none.
    """

    def __init__(self, source: Source, numbers: Sequence[int], items: str) -> None:
        self.source, self.numbers, self.labels = source, numbers, source.labels
        if not numbers:
            raise ValueError(f"there are no {items}; give at least one")

    def __len__(self) -> int:
        return len(self.numbers)

    def id(self, index: int) -> str:
        """The name of an item, different from all others."""
        return self.source.id(self.numbers[index])

    def describe(self, index: int) -> str:
        """Where an item is, for messages."""
        return self.source.describe(self.numbers[index])

    def digest(self, facts: str = "") -> str:
        """Hexadecimal; changes when the data, their choice or what else is said of them does."""
        digest = hashlib.sha256(self.source.fingerprint.encode())
        digest.update(facts.encode())
        digest.update(np.asarray(self.numbers, dtype=np.int64).tobytes())
        return digest.hexdigest()


Some = TypeVar("Some", bound=Items)
Read = TypeVar("Read", bound=Items, covariant=True)


class SplitSettings(Protocol):
    """What the config of any data says of its splits."""

    @property
    def path(self) -> str: ...
    @property
    def eval_path(self) -> str | None: ...
    @property
    def eval_fraction(self) -> float: ...
    @property
    def split_seed(self) -> int: ...
    @property
    def strict(self) -> bool: ...


class Reader(Protocol[Read]):
    """What decodes the records of one source."""

    def measure(self, number: int) -> tuple[int, ...]:
        """Decodes an item and gives its shape; ValueError or OSError says why it cannot."""
        ...

    def items(self, numbers: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> Read:
        """The readable items as examples, without augmentation.

        Args:
            numbers: Of the readable ones, at least one.
            shapes: What ``measure`` gave for all, by number.

        Raises:
            ValueError: If they do not go together.
        """
        ...


@dataclass(frozen=True, slots=True)
class Splits(Generic[Some]):
    """The items of a run.

    Attributes:
        train: For training, augmented where a seed is given.
        evaluation: For evaluation, never augmented.
        unreadable: One line for each item that was left out: where it is, and why.
    """

    train: Some
    evaluation: Some
    unreadable: tuple[str, ...]


def read_splits(
    config: SplitSettings,
    sources: tuple[Source, Source | None],
    reader: Callable[[Source], Reader[Some]],
    *,
    folder: Path | None,
) -> Splits[Some]:
    """Reads each item once to find unreadable ones, and splits the others.

    Args:
        config: Says how they are split.
        sources: For training and, where they are apart from the start, for evaluation.
        reader: Decodes the items of a source.
        folder: The run's folder: what was found is kept there, and on the next call the data must
            still be the same. None: nothing is kept.

    Raises:
        ValueError: If they cannot be used, or changed since the run began.
    """
    train, evaluation = sources
    file = folder and folder / INDEX
    items, lines = read_all(train, reader(train), config.path, strict=config.strict, file=file)
    if evaluation is None:
        for_training, held_out = split(len(items), config.eval_fraction, config.split_seed)
        chosen = ([items.numbers[index] for index in part] for part in (for_training, held_out))
        own, others = chosen
        return Splits(items.part(own, augment=True), items.part(others), tuple(lines))
    where = config.eval_path or config.path
    file = folder and folder / EVAL_INDEX
    held, more = read_all(evaluation, reader(evaluation), where, strict=config.strict, file=file)
    return Splits(items.part(items.numbers, augment=True), held, (*lines, *more))


def read_all(
    source: Source, reader: Reader[Some], where: str, *, strict: bool, file: Path | None = None
) -> tuple[Some, tuple[str, ...]]:
    """The readable items of a source, and a line for each of the others.

    Args:
        source: What is read.
        reader: Decodes its items.
        where: The name of the data, for messages.
        strict: Whether an unreadable item is an error.
        file: Where the index is kept; None keeps none.

    Raises:
        ValueError: If nothing can be read, or ``strict`` and not all can, or the data changed.
    """
    index = open_index(source, reader.measure, file=file, where=where, strict=strict)
    return reader.items(index.readable(), index.shapes), tuple(index.lines(source))
