"""One shard of a token set: its header and its rows, as a plain Parquet file."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ClassVar, Literal, Self

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.atomic import atomic_file
from vqkit.codes import LevelSpec
from vqkit.schema import STRICT
from vqkit.tokens.rows import Row
from vqkit.tokens.sharding import ShardHeader, ShardKind, damaged, metadata

ROWS_PER_GROUP = 4096


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Header(ShardHeader):
    """What a shard of tokens says of itself and of the set it belongs to."""

    prefix: ClassVar = "tokens"
    kind: Literal["tokens"] = "tokens"
    levels: tuple[LevelSpec, ...]
    """Shapes of the levels, coarsest first; of the first item when items differ."""
    vocabulary: Annotated[int, Field(ge=1)]
    """Number of entries of the largest codebook; every code is less."""
    ragged: bool = False
    """Whether some item of this shard has other grids than ``levels``, or a mask."""

    def at(self, shard: int) -> Self:
        """The header of another shard of the same set."""
        return replace(self, shard=shard, ragged=False)


def write_shard(path: Path, header: Header, batches: Iterable[Sequence[Row]]) -> None:
    """Writes one shard, whole or not at all; equal rows give equal bytes.

    Args:
        path: The file to make.
        header: What the shard says of itself; ``ragged`` is set here.
        batches: Its items in order.
    """
    rows = [row for batch in batches for row in batch]
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
    said = metadata(replace(header, ragged=ragged))
    with atomic_file(path) as part:
        table = pa.table(columns).replace_schema_metadata(said)
        pq.write_table(table, part, compression="zstd", row_group_size=ROWS_PER_GROUP)


TOKENS: ShardKind[Header, Row] = ShardKind("token set", Header, write_shard)


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
