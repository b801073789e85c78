"""Symbols: bytes, or pieces of text from a vocabulary, as integers; 0 is the end."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

END = 0
"""What stands after the last byte of a text, and wherever there is nothing."""


class Symbols:
    """What each integer of an item stands for.

    The end is 0 and stands for no bytes; symbol s is entry s of the table.

    Args:
        table: The bytes of each symbol, b"" for the end.

    Raises:
        ValueError: If there is no other than the end, or that stands for bytes.
    """

    def __init__(self, table: Sequence[bytes]) -> None:
        self.table = tuple(table)
        if len(self.table) < 2 or self.table[END]:
            raise ValueError("the table has no symbols; give b'' for the end, and more behind it")

    def __len__(self) -> int:
        return len(self.table)

    @classmethod
    def of(cls, joined: Tensor, lengths: Tensor) -> "Symbols":
        """The inverse of ``joined`` and ``lengths``: (N,) uint8 and (V,) int64."""
        text, ends = joined.cpu().numpy().tobytes(), lengths.cumsum(0).tolist()
        return cls(
            [text[end - length : end] for length, end in zip(lengths.tolist(), ends, strict=True)]
        )

    @property
    def joined(self) -> bytes:
        """The bytes of all symbols in a row."""
        return b"".join(self.table)

    @cached_property
    def lengths(self) -> Tensor:
        """How many bytes each symbol stands for. (V,) int64"""
        return torch.tensor([len(each) for each in self.table])

    @property
    def dtype(self) -> torch.dtype:
        """The smallest of the types that hold every symbol and its negative."""
        return torch.int16 if len(self) <= 2**15 else torch.int32

    def num_bytes(self, x: Tensor) -> Tensor:
        """How many bytes items stand for.

        Args:
            x: Items. (B, 1, L) integers

        Returns:
            (B,) int64
        """
        return self.lengths.to(x.device)[x.long()].flatten(1).sum(1)

    def text(self, x: Tensor) -> bytes:
        """The bytes of one item; ends are nothing, wherever they are.

        Args:
            x: Symbols. (1, L) integers
        """
        return b"".join(self.table[number] for number in x.flatten().tolist())

    def item(self, symbols: Sequence[int] | np.ndarray, patch: int) -> Tensor:
        """Symbols as an item whose length is a multiple: filled up with ends, at least one patch.

        Args:
            symbols: Without ends.
            patch: Symbols that one code vector stands for.

        Returns:
            (1, L)
        """
        length = padded_length(len(symbols), patch)
        x = torch.full((1, length), END, dtype=self.dtype)
        if len(symbols):
            x[0, : len(symbols)] = torch.from_numpy(np.asarray(symbols)).to(self.dtype)
        return x


BYTES = Symbols([b"", *(bytes([value]) for value in range(256))])
"""Byte b as symbol b + 1."""


def byte_symbols(text: bytes) -> np.ndarray:
    """The symbols of bytes. (L,) int16"""
    return np.frombuffer(text, np.uint8).astype(np.int16) + 1


def padded_length(length: int, patch: int) -> int:
    """The least multiple of ``patch``, at least one, that is no less than ``length``."""
    return max(1, -(-length // patch)) * patch
