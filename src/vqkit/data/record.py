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
    """Items with random access; nothing is read before it is asked for, and a copy can be pickled.

    Attributes:
        labels: Names of the classes; empty when the items have none.
        fingerprint: Hexadecimal; differs once names, sizes or contents of the data do, and is the
            same for a copy.
        item_shape: Shape of every item where that is known without reading; None where the items
            must be decoded to know.
    """

    @property
    def labels(self) -> tuple[str, ...]: ...

    @property
    def fingerprint(self) -> str: ...

    @property
    def item_shape(self) -> tuple[int, ...] | None: ...

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Record: ...

    def describe(self, index: int) -> str:
        """Where an item is, for messages: a path, or ``file.parquet row 17``."""
        ...
