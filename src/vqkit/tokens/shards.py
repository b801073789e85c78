"""One shard of a token set: its name, its header and its rows, as a plain Parquet file."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from vqkit.atomic import atomic_file
from vqkit.codes import LevelSpec
from vqkit.schema import STRICT
from vqkit.storage import FORMAT_VERSION
from vqkit.tokens.rows import Row

KEY = b"vqkit"
PATTERN = "tokens-*-of-*.parquet"
ROWS_PER_GROUP = 4096
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Header:
    """What a shard says of itself and of the set it belongs to; JSON in the Parquet schema."""

    kind: Literal["tokens"] = "tokens"
    format_version: int = FORMAT_VERSION
    """Version of this layout."""
    tokenizer: str
    """Fingerprint of the model that made the tokens."""
    source: str
    """Fingerprint of the data as they were encoded."""
    labels: tuple[str, ...]
    """Names of the classes; empty when there are none."""
    levels: tuple[LevelSpec, ...]
    """Shapes of the levels, coarsest first; of the first item when items differ."""
    vocabulary: Annotated[int, Field(ge=1)]
    """Number of entries of the largest codebook; every code is less."""
    num_items: Annotated[int, Field(ge=1)]
    """Number of items of the whole set."""
    shard_size: Annotated[int, Field(ge=1)]
    """Number of items of each shard but the last."""
    num_shards: Annotated[int, Field(ge=1)]
    """Number of shards of the set."""
    shard: Count = 0
    """Number of this shard, from 0."""
    ragged: bool = False
    """Whether some item of this shard has other grids than ``levels``, or a mask."""

    @property
    def items(self) -> range:
        """The items of this shard by their number in the set."""
        first = self.shard * self.shard_size
        return range(first, min(first + self.shard_size, self.num_items))

    @property
    def name(self) -> str:
        """The file name of this shard."""
        return f"tokens-{self.shard:05d}-of-{self.num_shards:05d}.parquet"

    @property
    def common(self) -> "Header":
        """What all shards of one set share."""
        return replace(self, shard=0, ragged=False)

    def at(self, shard: int) -> "Header":
        """The header of another shard of the same set."""
        return replace(self, shard=shard, ragged=False)


HEADER = TypeAdapter(Header)


def write_shard(path: Path, header: Header, rows: Sequence[Row]) -> None:
    """Writes one shard, whole or not at all; equal rows give equal bytes.

    Args:
        path: The file to make.
        header: What the shard says of itself; ``ragged`` is set here.
        rows: Its items in order.
    """
    shape = [(*spec.grid, len(spec.codebook_sizes)) for spec in header.levels]
    ragged = any(row.mask is not None or row.shape != tuple(shape) for row in rows)
    wide = pa.uint16() if header.vocabulary <= 2**16 else pa.uint32()
    ends = np.cumsum([0, *(len(row.codes) for row in rows)])
    values = pa.array(np.concatenate([row.codes for row in rows]), type=wide)
    columns: dict[str, pa.Array] = {
        "id": pa.array([row.id for row in rows], pa.string()),
        "codes": pa.ListArray.from_arrays(pa.array(ends, pa.int32()), values),
        "shape": pa.array([row.shape for row in rows], pa.list_(pa.list_(pa.int32()))),
        "label": pa.array([row.label for row in rows], pa.int64()),
        "mask": pa.array([row.mask for row in rows], pa.list_(pa.bool_())),
    }
    if any(row.size is not None for row in rows):
        columns["size"] = pa.array([row.size for row in rows], pa.list_(pa.int64()))
    dump: dict[str, Any] = HEADER.dump_python(replace(header, ragged=ragged), mode="json")
    metadata = {KEY: json.dumps(dump, sort_keys=True).encode()}
    with atomic_file(path) as part:
        table = pa.table(columns).replace_schema_metadata(metadata)
        pq.write_table(table, part, compression="zstd", row_group_size=ROWS_PER_GROUP)


def read_header(path: Path) -> Header:
    """Reads what a shard says of itself.

    Raises:
        ValueError: If the file is cut or damaged, is no shard of tokens, or of another version.
    """
    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error) from None
    text = (footer.metadata or {}).get(KEY)
    if text is None:
        raise ValueError(f"{path} is a Parquet file but not of a vqkit token set")
    header = parse_header(text, path)
    if footer.num_rows != len(header.items):
        rows = f"{footer.num_rows} rows, its header says {len(header.items)}"
        raise ValueError(f"{path} has {rows}; remove it and encode again")
    return header


def parse_header(text: bytes, path: Path) -> Header:
    """A header from its JSON.

    Raises:
        ValueError: If it is damaged, or of another version.
    """
    try:
        plain = json.loads(text)
        version = plain.get("format_version")
        if version == FORMAT_VERSION:
            return HEADER.validate_python(plain)
    except (ValueError, AttributeError, ValidationError) as error:
        raise damaged(path, error) from None
    raise ValueError(
        f"{path}: format_version is {version}, this vqkit reads {FORMAT_VERSION}; "
        "encode the data again"
    )


def read_columns(path: Path, columns: Sequence[str]) -> pa.Table:
    """Reads those of some columns that a shard has.

    Raises:
        ValueError: If the file is cut or damaged.
    """
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns=list(columns))
    except (pa.ArrowException, OSError, KeyError) as error:
        raise damaged(path, error) from None


def damaged(path: Path, error: Exception) -> ValueError:
    """The error for a file that cannot be read, on one line."""
    reason = " ".join(str(error).split())[:200]
    return ValueError(f"{path} is cut or damaged ({reason}); remove it and encode again")
