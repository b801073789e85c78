"""What every source of data is: items with a number, readable in any order by any process."""

from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Record:
    """One item as it is stored, not decoded.

    Attributes:
        id: A name that no other item of the source has, fit to be a relative file name.
        value: The bytes of an encoded file, or an array.
        label: Position of its class in the source's ``labels``; None without labels.
    """

    id: str
    value: Any
    label: int | None = None


class Source(Protocol):
    """Items with random access. It may be pickled, and read by several threads and processes."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes; empty when the items have none."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hexadecimal; other names, sizes or contents have another, a copy has the same."""
        ...

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        """The shape of all items, where they are arrays; None where they must be decoded."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record:
        """Reads an item; ValueError or OSError says why it cannot."""
        ...

    def id(self, index: int) -> str:
        """The name of an item, without reading it."""
        ...

    def label(self, index: int) -> int | None:
        """The class of an item, without reading it; None without labels."""
        ...

    def describe(self, index: int) -> str:
        """Where an item is, for messages: a path, or ``file.parquet row 17``."""
        ...


def numbered_id(index: int, count: int) -> str:
    """The number of an item as text, all of one length: their order as text is their order."""
    return f"{index:0{len(str(count - 1))}d}"
