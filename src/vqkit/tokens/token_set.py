"""A token set: what a tokenizer made of a data set, with random access."""

import hashlib
import re
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from vqkit.codes import Codes, LevelSpec
from vqkit.data.example import Example
from vqkit.priors import ConditioningSpec
from vqkit.tokens.columns import Columns, as_shape
from vqkit.tokens.rows import codes_of, pad
from vqkit.tokens.sharding import damaged, read_header
from vqkit.tokens.shards import TOKENS, Header, read_columns

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE

NAME = re.compile(r"tokens-(\d{5,})-of-(\d{5,})\.parquet")


class TokenSet:
    """The codes of a data set as examples; shards are read when first asked for.

    Made by ``TokenSet.open``.

    Attributes:
        folder: Where the shards are.
        tokenizer: Fingerprint of the model that made the tokens.
        source: Fingerprint of the data they were made of.
        labels: Names of the classes; empty when there are none.
        specs: Shapes of the levels, coarsest first; the longest where items differ.
    """

    def __init__(self, folder: Path, headers: Sequence[Header]) -> None:
        self.folder = folder
        self._headers = list(headers)
        self._shards: dict[int, Columns] = {}
        first = self._headers[0]
        self.tokenizer = first.tokenizer
        self.source = first.source
        self.labels = first.labels
        self._size, self._shard_size = first.num_items, first.shard_size
        self.ragged = any(header.ragged for header in headers)
        self.specs = self._longest() if self.ragged else first.levels

    @classmethod
    def open(cls, folder: Path | str) -> "TokenSet":
        """Opens a folder of shards; reads their headers only.

        Raises:
            FileNotFoundError: If the folder holds no tokens, or a shard is missing.
            ValueError: If a shard is damaged or of another version, or shards do not belong
                together.
        """
        folder = Path(folder)
        paths = sorted(path for path in folder.glob(TOKENS.pattern) if NAME.fullmatch(path.name))
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{folder}: there is no such folder; make a token set with `vqkit encode`"
            )
        if not paths:
            raise FileNotFoundError(
                f"{folder} holds no tokens-*.parquet; make a token set with `vqkit encode`"
            )
        headers = [read_header(path, Header, TOKENS.what) for path in paths]
        for path, header in zip(paths, headers, strict=True):
            check_belongs(path, header, paths[0], headers[0])
        found = {header.shard for header in headers}
        missing = [headers[0].at(k).name for k in range(headers[0].num_shards) if k not in found]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise FileNotFoundError(
                f"{folder} lacks {missing[0]}{more}; run the same `vqkit encode` again to continue"
            )
        return cls(folder, sorted(headers, key=lambda header: header.shard))

    def __len__(self) -> int:
        return self._size

    def example(self, index: int, seed: int | None = None) -> Example:
        """The codes of one item in a row.

        Args:
            index: At least 0 and less than the length.
            seed: Without effect: tokens are not augmented.

        Returns:
            Indices (L,) int64, in the order of ``Codes.flat``; where items differ, padded with 0
            to the longest, and masked.
        """
        shard, place = self._locate(index)
        if not self.ragged:
            return Example(torch.from_numpy(shard.codes(place)), shard.label(place))
        codes = pad(self._item(shard, place), self.specs)
        mask = codes.flat_mask()
        return Example(codes.flat()[0], shard.label(place), None if mask is None else mask[0])

    def codes(self, index: int) -> Codes:
        """The codes of one item as they were made, with its own grids. 1 item"""
        return self._item(*self._locate(index))

    def size(self, index: int) -> tuple[int, ...] | None:
        """Lengths of an item's own grid, where codes stand for more than was there; else None."""
        shard, place = self._locate(index)
        return shard.size(place)

    def id(self, index: int) -> str:
        """The name of an item in the data it was made of."""
        shard, place = self._locate(index)
        return shard.id(place)

    def label(self, index: int) -> int | None:
        """The class of an item; None when it has none."""
        shard, place = self._locate(index)
        return shard.label(place)

    def describe(self, index: int) -> str:
        """Where an item is, for messages."""
        number, place = divmod(index, self._shard_size)
        return f"{self.folder / self._headers[number].name} row {place}"

    @cached_property
    def lengths(self) -> list[int] | None:
        """How many codes each item has, where items differ; None where all have as many."""
        if not self.ragged:
            return None
        starts = range(0, self._size, self._shard_size)
        return [int(n) for start in starts for n in self._locate(start)[0].lengths]

    @property
    def num_classes(self) -> int | None:
        """Number of classes of the labels; None when there are none."""
        return len(self.labels) or None

    @property
    def conditioning(self) -> ConditioningSpec:
        """What a prior may be told of the items: their labels, if they have any."""
        return ConditioningSpec(num_classes=self.num_classes)

    @cached_property
    def fingerprint(self) -> str:
        """Hexadecimal hash that changes with the tokenizer, the data and the files."""
        digest = hashlib.sha256()
        for header in self._headers:
            digest.update(f"{header} {(self.folder / header.name).stat().st_size}\n".encode())
        return digest.hexdigest()

    def check_tokenizer(self, model: "VQVAE") -> None:
        """Raises ValueError unless the model is the one that made these tokens."""
        found = model.fingerprint()
        if found != self.tokenizer:
            raise ValueError(
                f"the tokens of {self.folder} were made by tokenizer {self.tokenizer[:12]}, this "
                f"run is {found[:12]}; encode the data again, or give the run that made them"
            )

    def _locate(self, index: int) -> tuple[Columns, int]:
        if not 0 <= index < self._size:
            raise IndexError(f"index is {index}; the token set has items 0 to {self._size - 1}")
        number, place = divmod(index, self._shard_size)
        if number not in self._shards:
            self._shards[number] = Columns(self._headers[number], self.folder)
        return self._shards[number], place

    def _item(self, shard: Columns, place: int) -> Codes:
        flat, mask = torch.from_numpy(shard.codes(place)), shard.mask(place)
        real = None if mask is None else torch.from_numpy(mask).unsqueeze(0)
        levels = self._headers[0].levels
        try:
            return codes_of(flat.unsqueeze(0), shard.shape(place), levels, real)
        except ValueError as error:
            raise damaged(shard.path, error) from None

    def _longest(self) -> tuple[LevelSpec, ...]:
        """The shapes that every item fits in."""
        shapes = set()
        for header in self._headers:
            column = read_columns(self.folder / header.name, ["shape"])["shape"]
            shapes |= {as_shape(value) for value in column}
        grids = [
            tuple(max(lengths) for lengths in zip(*level, strict=True))[:-1]
            for level in zip(*shapes, strict=True)
        ]
        return tuple(
            LevelSpec(grid, spec.codebook_sizes, spec.structure)
            for grid, spec in zip(grids, self._headers[0].levels, strict=True)
        )


def check_belongs(path: Path, header: Header, first_path: Path, first: Header) -> None:
    """Raises ValueError unless a shard belongs to the same set as the first one."""
    if header.tokenizer != first.tokenizer:
        raise ValueError(
            f"{path} is of tokenizer {header.tokenizer[:12]}, {first_path.name} of "
            f"{first.tokenizer[:12]}; keep each token set in its own folder"
        )
    if header.common != first.common or header.name != path.name:
        raise ValueError(
            f"{path} and {first_path.name} do not belong together; keep each token set in its own "
            "folder, with the names its files were given"
        )
