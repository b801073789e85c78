"""Files of token sequences: flat memory maps, indexed .bin/.idx pairs, and Parquet."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from vqkit.tokens.rows import Shape

Format = Literal["memmap", "bin-idx", "parquet"]
TOKENS, INDEX, ITEMS = "tokens.bin", "tokens.idx", "items.parquet"
PREFIX = "input-ids"
MAGIC, VERSION = b"MMIDIDX\x00\x00", 1
TYPE_CODES = {"<u2": 8, "<i4": 4}
"""What an index calls the types of tokens."""
PER_FILE, PER_GROUP = 8192, 1024
"""Rows of a Parquet file, and of one of its row groups."""
ABOUT = (
    pa.field("id", pa.string()),
    pa.field("label", pa.int64()),
    pa.field("shape", pa.list_(pa.list_(pa.int32()))),
    pa.field("mask", pa.list_(pa.bool_())),
    pa.field("size", pa.list_(pa.int64())),
)
"""What tokens do not say of their item."""
Thing = TypeVar("Thing")


@dataclass(frozen=True, slots=True, eq=False)
class TokenSequence:
    """One item as a language model reads it.

    Attributes:
        ids: Its tokens, with padding. (L,) int64
        num_real: How many of them are no padding.
        id: The item's name in its data.
        label: The item's class; None when it has none.
        shape: The lengths (*grid, Q) of each of its levels.
        mask: True where a code of these is real; None when all are. (M,) bool
        size: Lengths of the item's own grid, where its codes do not tell; None where they do.
    """

    ids: np.ndarray
    num_real: int
    id: str
    label: int | None
    shape: Shape
    mask: np.ndarray | None
    size: tuple[int, ...] | None


def dtype_of(kind: Format, size: int) -> str:
    """How the tokens of a vocabulary of so many are stored, in numpy's words.

    Raises:
        ValueError: If there are too many for the format.
    """
    if size > (2**32 if kind == "memmap" else 2**31):
        raise ValueError(f"the vocabulary has {size:,} tokens, too many for {kind}")
    if size <= 2**16 and kind != "parquet":
        return "<u2"
    return "<u4" if kind == "memmap" else "<i4"


def write_flat(folder: Path, items: Iterable[TokenSequence], dtype: str) -> list[int]:
    """Writes all tokens after another into one file, and beside it what they do not say.

    Returns:
        The number of tokens of each item.
    """
    lengths: list[int] = []
    schema = pa.schema(ABOUT)
    with (folder / TOKENS).open("wb") as file, pq.ParquetWriter(folder / ITEMS, schema) as table:
        for group in grouped(items, PER_GROUP):
            for item in group:
                file.write(item.ids.astype(dtype).tobytes())
            table.write_table(table_of(group, schema))
            lengths += [len(item.ids) for item in group]
    return lengths


def write_index(path: Path, lengths: list[int], dtype: str) -> None:
    """Writes where each item begins in a flat file, as readers of Megatron-LM expect it.

    Every item is a sequence and a document of its own. All numbers are little-endian:

    - 9 bytes ``MMIDIDX``, 0, 0; uint64 version, 1; uint8 type of the tokens (8 uint16, 4 int32)
    - uint64 number of sequences N; uint64 number of document bounds, N + 1
    - N int32 lengths of the sequences in tokens; N int64 places where they begin, in bytes
    - N + 1 int64 bounds: document i has the sequences from bound i to before bound i + 1
    """
    sizes = np.array(lengths, dtype="<i4")
    ends = np.cumsum(sizes, dtype="<i8") * np.dtype(dtype).itemsize
    starts = np.concatenate([np.zeros(1, "<i8"), ends[:-1]])
    bounds = np.arange(len(sizes) + 1, dtype="<i8")
    head = MAGIC + struct.pack("<QBQQ", VERSION, TYPE_CODES[dtype], len(sizes), len(bounds))
    path.write_bytes(head + sizes.tobytes() + starts.astype("<i8").tobytes() + bounds.tobytes())


def write_parquet(
    folder: Path, items: Iterable[TokenSequence], num_items: int, *, padded: bool
) -> list[int]:
    """Writes a row for each item: ``input_ids``, where padded ``attention_mask``, and the rest.

    Returns:
        The number of tokens of each item.
    """
    tokens = [pa.field("input_ids", pa.list_(pa.int32()))]
    if padded:
        tokens.append(pa.field("attention_mask", pa.list_(pa.int8())))
    schema = pa.schema([*tokens, *ABOUT])
    num_files = -(-num_items // PER_FILE)
    lengths: list[int] = []
    for number, group in enumerate(grouped(items, PER_FILE)):
        path = folder / f"{PREFIX}-{number:05d}-of-{num_files:05d}.parquet"
        table = table_of(group, schema)
        pq.write_table(table, path, compression="zstd", row_group_size=PER_GROUP)
        lengths += [len(item.ids) for item in group]
    return lengths


def table_of(items: list[TokenSequence], schema: pa.Schema) -> pa.Table:
    """Some items as the columns of a schema."""
    columns = {
        "input_ids": [item.ids for item in items],
        "attention_mask": [(np.arange(len(i.ids)) < i.num_real).astype(np.int8) for i in items],
        "id": [item.id for item in items],
        "label": [item.label for item in items],
        "shape": [item.shape for item in items],
        "mask": [item.mask for item in items],
        "size": [item.size for item in items],
    }
    kept = [pa.array(columns[field.name], field.type) for field in schema]
    return pa.table(kept, schema=schema)


def grouped(items: Iterable[Thing], size: int) -> Iterator[list[Thing]]:
    """So many items at a time; the last ones may be fewer."""
    rest = iter(items)
    while group := list(islice(rest, size)):
        yield group
