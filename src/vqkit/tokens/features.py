"""Encodes a data set as vectors instead of tokens: z_e or z_q of every position, in Parquet."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field
from pydantic.dataclasses import dataclass as config_dataclass

from vqkit.atomic import atomic_file
from vqkit.data.batch import Batch, collate
from vqkit.data.example import Examples
from vqkit.nn.evaluating import device_of
from vqkit.schema import STRICT
from vqkit.tokens.encode import at_once, check_sizes, fill, id_of, source_of
from vqkit.tokens.rows import Shape
from vqkit.tokens.sharding import ShardHeader, ShardKind, metadata, write_shards
from vqkit.tokens.sizes import by_size
from vqkit.tokens.vectors import Side, level_vectors

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE

SHARD_SIZE = 1024
"""Items of a file: a vector takes some hundred times the room of its code."""


@config_dataclass(frozen=True, config=STRICT)
class VectorSpec:
    """The shape of one level of vectors."""

    grid: tuple[Annotated[int, Field(ge=1)], ...]
    """Lengths of the grid axes; empty for plain vectors."""
    dim: Annotated[int, Field(ge=1)]
    """Length D of a vector."""


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class FeatureHeader(ShardHeader):
    """What a shard of features says of itself and of the set it belongs to."""

    prefix: ClassVar = "features"
    kind: Literal["features"] = "features"
    side: Side
    """z_e, what the encoder gave, or z_q, the entries that it became."""
    levels: tuple[VectorSpec, ...]
    """Shapes of the levels, coarsest first; of the first item where items differ."""

    @property
    def columns(self) -> list[str]:
        """Name of the column of each level's vectors."""
        several = len(self.levels) > 1
        return [f"vectors_{number}" if several else "vectors" for number in range(len(self.levels))]

    def differing(self, wanted: ShardHeader) -> str | None:
        """In words, how this shard differs from those to be written; None when it is one."""
        if isinstance(wanted, FeatureHeader) and self.side != wanted.side:
            return f"holds {self.side}, now {wanted.side} is asked for"
        return super().differing(wanted)


@dataclass(frozen=True, slots=True, eq=False)
class FeatureRow:
    """The vectors of one item, without padding.

    Attributes:
        id: The item's name in its data.
        vectors: Of each level, in raster order; 0 where not real. Each (L, D) float32
        shape: The lengths (*grid, D) of each level.
        label: The item's class; None when it has none.
        mask: True where a vector is real, level by level; None when all are. (sum of L,) bool
    """

    id: str
    vectors: tuple[np.ndarray, ...]
    shape: Shape
    label: int | None
    mask: np.ndarray | None


def encode_features(
    model: "VQVAE",
    examples: Examples,
    folder: Path | str,
    side: Side,
    *,
    batch_size: int = 64,
    shard_size: int = SHARD_SIZE,
    num_workers: int = 0,
    progress: bool = False,
) -> None:
    """Writes the vectors of all examples as Parquet shards, in order.

    It goes on, shares its work and refuses what ``encode_dataset`` does, of which see there.

    Args:
        model: The tokenizer, on its device.
        examples: What is encoded, without augmentation.
        folder: Where the shards go; made when missing.
        side: ``z_e``, what the encoder gave, or ``z_q``, the entries that it became.
        batch_size: Items encoded at once.
        shard_size: Items per file; what is lost at most when the run is killed.
        num_workers: Processes that read ahead; 0 reads in this one.
        progress: Whether to show a bar.
    """
    check_sizes(batch_size, shard_size)
    folder = Path(folder)
    FEATURES.check_place(folder)
    write_shards(
        FEATURES,
        header_of(model, examples, side, shard_size),
        examples,
        folder,
        lambda batch: feature_rows(model, examples, batch, side, batch_size),
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )


def header_of(model: "VQVAE", examples: Examples, side: Side, shard_size: int) -> FeatureHeader:
    """What all shards will say.

    Raises:
        ValueError: If there are no examples.
    """
    if not len(examples):
        raise ValueError("the data has 0 items; there is nothing to encode")
    first = collate([examples.example(0)], [0]).to(device_of(model))
    shapes = [level.z_e.shape[1:] for level in level_vectors(model, first.x, first.mask)]
    return FeatureHeader(
        tokenizer=model.fingerprint(),
        source=source_of(examples),
        labels=tuple(getattr(examples, "labels", ())),
        side=side,
        levels=tuple(VectorSpec(tuple(grid), dim) for *grid, dim in shapes),
        num_items=len(examples),
        shard_size=shard_size,
        num_shards=-(-len(examples) // shard_size),
    )


def feature_rows(
    model: "VQVAE", examples: Examples, batch: Batch, side: Side, batch_size: int
) -> list[FeatureRow]:
    """The items of one batch in order, each without padding."""
    found: dict[int, FeatureRow] = {}
    device, most = device_of(model), at_once(model, batch_size)
    for part in by_size(batch):
        mask = None if part.mask is None else fill(part.mask, most).to(device)
        levels = list(level_vectors(model, fill(part.x, most).to(device), mask))
        vectors = [level.side(side)[: len(part)].float().cpu().numpy() for level in levels]
        masks = [level.mask.cpu().numpy() for level in levels if level.mask is not None]
        labels = [None] * len(part) if part.labels is None else part.labels.tolist()
        for place, number in enumerate(part.positions.tolist()):
            own = [each[place] for each in vectors]
            real = np.concatenate([np.ravel(each[place]) for each in masks]) if masks else None
            found[number] = FeatureRow(
                id_of(examples, number),
                tuple(each.reshape(-1, each.shape[-1]) for each in own),
                tuple(each.shape for each in own),
                labels[place],
                None if real is None or real.all() else real,
            )
    return [found[number] for number in batch.positions.tolist()]


def write_shard(path: Path, header: FeatureHeader, batches: Iterable[Sequence[FeatureRow]]) -> None:
    """Writes one shard, whole or not at all, a row group for each batch: memory holds one.

    Args:
        path: The file to make.
        header: What the shard says of itself.
        batches: Its items in order.
    """
    with atomic_file(path) as part, pq.ParquetWriter(part, schema(header), compression="zstd") as f:
        for rows in batches:
            f.write_batch(record_batch(header, rows))


def schema(header: FeatureHeader) -> pa.Schema:
    """The columns of a shard, and its header."""
    vectors = [
        pa.field(name, pa.list_(pa.list_(pa.float32(), spec.dim)))
        for name, spec in zip(header.columns, header.levels, strict=True)
    ]
    others = [
        pa.field("id", pa.string()),
        pa.field("shape", pa.list_(pa.list_(pa.int32()))),
        pa.field("label", pa.int64()),
        pa.field("mask", pa.list_(pa.bool_())),
    ]
    return pa.schema([others[0], *vectors, *others[1:]], metadata=metadata(header))


def record_batch(header: FeatureHeader, rows: Sequence[FeatureRow]) -> pa.RecordBatch:
    """Some items as columns."""
    kind = schema(header)
    columns = {
        name: pa.array([getattr(row, name) for row in rows], kind.field(name).type)
        for name in ("id", "shape", "label", "mask")
    }
    for level, (name, spec) in enumerate(zip(header.columns, header.levels, strict=True)):
        ends = np.cumsum([0, *(math.prod(row.shape[level][:-1]) for row in rows)])
        values = np.concatenate([row.vectors[level] for row in rows]).ravel()
        each = pa.FixedSizeListArray.from_arrays(pa.array(values, pa.float32()), spec.dim)
        columns[name] = pa.ListArray.from_arrays(pa.array(ends, pa.int32()), each)
    return pa.record_batch([columns[name] for name in kind.names], schema=kind)


FEATURES: ShardKind[FeatureHeader, FeatureRow] = ShardKind(
    "feature set", FeatureHeader, write_shard
)
