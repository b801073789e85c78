"""What an index pass found, and whether the data are still the same."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from vqkit.data.record import Source
from vqkit.storage import read_json, write_text

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Index:
    """What a pass over a source found.

    Attributes:
        num_items: Number of items of the source, readable or not.
        fingerprint: Of the source.
        unreadable: Reason by number of item.
        shapes: Shape of each item in order, such as (height, width); empty for an unreadable one.
    """

    num_items: int
    fingerprint: str
    unreadable: Mapping[int, str]
    shapes: tuple[tuple[int, ...], ...]

    def readable(self) -> list[int]:
        """Numbers of the items that can be read."""
        return [index for index in range(self.num_items) if index not in self.unreadable]

    def lines(self, source: Source) -> list[str]:
        """One line for each unreadable item: where it is, and why."""
        return [f"{source.describe(index)} {reason}" for index, reason in self.unreadable.items()]

    def save(self, path: Path, source: Source) -> None:
        """Writes the index as JSON, with the places of unreadable items for people to read."""
        runs = [["x".join(map(str, shape)), len(list(run))] for shape, run in groupby(self.shapes)]
        value = {
            "format": FORMAT,
            "num_items": self.num_items,
            "fingerprint": self.fingerprint,
            "unreadable": {
                str(index): {"where": source.describe(index), "reason": reason}
                for index, reason in self.unreadable.items()
            },
            "shapes": runs,
        }
        write_text(path, json.dumps(value, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> "Index":
        """Reads an index.

        Raises:
            FileNotFoundError: If it is not there.
            ValueError: If it is damaged, or of another version of vqkit.
        """
        value = read_json(path, "remove it, it is made anew")
        try:
            if value["format"] != FORMAT:
                raise ValueError(f"its format is {value['format']}, this vqkit reads {FORMAT}")
            shapes: list[tuple[int, ...]] = []
            for text, length in value["shapes"]:
                shapes += [tuple(int(side) for side in text.split("x") if side)] * length
            unreadable = {int(index): item["reason"] for index, item in value["unreadable"].items()}
            index = cls(value["num_items"], value["fingerprint"], unreadable, tuple(shapes))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            reason = f"{type(error).__name__}: {error}"
            raise ValueError(
                f"{path} cannot be used ({reason}); remove it, it is made anew"
            ) from None
        if len(index.shapes) != index.num_items:
            raise ValueError(f"{path} is damaged; remove it, it is made anew")
        return index

    def verify(self, source: Source, where: str = "the data") -> None:
        """Checks that the source is still what was indexed.

        Raises:
            ValueError: If the number of items or the fingerprint differs.
        """
        fix = "restore it, or start a new run in another folder"
        if len(source) != self.num_items:
            counts = f"{where} had {self.num_items} items and has {len(source)}"
            raise ValueError(f"data changed since the run began: {counts}; {fix}")
        if source.fingerprint != self.fingerprint:
            what = f"{where} has other names, sizes, contents or columns (fingerprint)"
            raise ValueError(f"data changed since the run began: {what}; {fix}")
