"""Data sets in shards: plain Parquet files, each with a header that says what it belongs to."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, Self, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as config_dataclass

from vqkit.atomic import remove_left
from vqkit.data.batch import Batch
from vqkit.data.example import Examples
from vqkit.data.loader import in_order
from vqkit.distributed import barrier, is_main, rank, world_size
from vqkit.schema import STRICT
from vqkit.storage import FORMAT_VERSION
from vqkit.tokens.progress import advancing
from vqkit.tokens.sizes import alike

KEY = b"vqkit"
Count = Annotated[int, Field(ge=0)]
Row = TypeVar("Row")


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class ShardHeader:
    """What a shard says of itself and of the set it belongs to; JSON in the Parquet schema."""

    prefix: ClassVar = ""
    """How the names of the files begin."""
    format_version: int = FORMAT_VERSION
    """Version of this layout."""
    tokenizer: str
    """Fingerprint of the model that made the set."""
    source: str
    """Fingerprint of the data as they were encoded."""
    labels: tuple[str, ...]
    """Names of the classes; empty when there are none."""
    num_items: Annotated[int, Field(ge=1)]
    """Number of items of the whole set."""
    shard_size: Annotated[int, Field(ge=1)]
    """Number of items of each shard but the last."""
    num_shards: Annotated[int, Field(ge=1)]
    """Number of shards of the set."""
    shard: Count = 0
    """Number of this shard, from 0."""

    @property
    def items(self) -> range:
        """The items of this shard by their number in the set."""
        first = self.shard * self.shard_size
        return range(first, min(first + self.shard_size, self.num_items))

    @property
    def name(self) -> str:
        """The file name of this shard."""
        return f"{self.prefix}-{self.shard:05d}-of-{self.num_shards:05d}.parquet"

    @property
    def common(self) -> Self:
        """What all shards of one set share."""
        return self.at(0)

    def at(self, shard: int) -> Self:
        """The header of another shard of the same set."""
        return replace(self, shard=shard)

    def differing(self, wanted: "ShardHeader") -> str | None:
        """In words, how this shard differs from those to be written; None when it is one."""
        if self.tokenizer != wanted.tokenizer:
            return f"is of tokenizer {self.tokenizer[:12]}, this one is {wanted.tokenizer[:12]}"
        if (self.source, self.num_items) != (wanted.source, wanted.num_items):
            return (
                f"is of other data ({self.num_items} items, fingerprint {self.source[:12]}; now "
                f"{wanted.num_items}, {wanted.source[:12]})"
            )
        if self.shard_size != wanted.shard_size:
            return f"is of shards of {self.shard_size} items, now {wanted.shard_size} are asked for"
        if self.common != wanted.common:
            return "has other labels or levels than this data and tokenizer"
        return None


Head = TypeVar("Head", bound=ShardHeader)


@dataclass(frozen=True, slots=True)
class ShardKind(Generic[Head, Row]):
    """One kind of sets.

    Attributes:
        what: What a set is called, such as ``token set``.
        header: Of its shards.
        write: Writes a shard of rows, batch by batch, whole or not at all.
    """

    what: str
    header: type[Head]
    write: Callable[[Path, Head, Iterable[list[Row]]], None]

    @property
    def pattern(self) -> str:
        """What the names of all its files are like."""
        return f"{self.header.prefix}-*-of-*.parquet"

    def check_place(self, folder: Path) -> None:
        """Raises ValueError unless a folder is new, empty or such a set."""
        if not folder.exists():
            return
        another = f"give another folder for the {self.header.prefix}"
        if not folder.is_dir():
            raise ValueError(f"{folder} is a file; {another}")
        names = sorted(path.name for path in folder.iterdir())
        others = [name for name in names if not fnmatch(name, f".{self.pattern}.*.part")]
        if others and not any(fnmatch(name, self.pattern) for name in others):
            raise ValueError(f"{folder} holds {others[0]} and is no {self.what}; {another}")

    def missing(self, folder: Path, header: Head) -> list[Head]:
        """The shards that are still to be written.

        Raises:
            ValueError: If a file of the folder belongs to another set, or is damaged.
        """
        wanted = {shard.name: shard for shard in map(header.at, range(header.num_shards))}
        for path in sorted(folder.glob(self.pattern)):
            found = read_header(path, self.header, self.what)
            difference = found.differing(header)
            if difference is not None:
                again = f"give another folder, or remove its {self.header.prefix}"
                raise ValueError(f"{path} {difference}; {again}")
            wanted.pop(found.name)
        return list(wanted.values())


def write_shards(
    kind: ShardKind[Head, Row],
    header: Head,
    examples: Examples,
    folder: Path,
    encode: Callable[[Batch], list[Row]],
    *,
    batch_size: int,
    num_workers: int,
    progress: bool,
) -> None:
    """Writes the shards of a set that are not there yet; ranks take them in turn.

    Args:
        kind: Of the set.
        header: What all shards say.
        examples: What is encoded, without augmentation.
        folder: Where the shards go; made when missing.
        encode: From a batch to its rows, in order.
        batch_size: Items encoded at once.
        num_workers: Processes that read ahead; 0 reads in this one.
        progress: Whether to show a bar.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # By number, not by place among the missing: ranks may look while others already write.
    missing = kind.missing(folder, header)
    mine = [shard for shard in missing if shard.shard % world_size() == rank()]
    total = sum(len(shard.items) for shard in mine)
    with advancing("encoding", total, show=progress) as advance:
        for shard in mine:

            def batches(items: range = shard.items) -> Iterator[list[Row]]:
                order, rows = alike(examples, items), dict[int, Row]()
                for batch in in_order(examples, batch_size, indices=order, num_workers=num_workers):
                    found = encode(batch)
                    if order is items:
                        yield found
                    rows |= zip(batch.positions.tolist(), found, strict=True)
                    advance(len(batch))
                if order is not items:
                    yield [rows[number] for number in items]

            kind.write(folder / shard.name, shard, batches())
    barrier()
    if is_main():  # what killed runs left behind
        remove_left(folder.glob(f".{kind.pattern}.*.part"))


def metadata(header: ShardHeader) -> dict[bytes, bytes]:
    """A header as the metadata of a Parquet schema."""
    dump: dict[str, Any] = TypeAdapter(type(header)).dump_python(header, mode="json")
    return {KEY: json.dumps(dump, sort_keys=True).encode()}


def read_header(path: Path, kind: type[Head], what: str) -> Head:
    """Reads what a shard says of itself.

    Raises:
        ValueError: If the file is cut or damaged, is none of such a set, or of another version.
    """
    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError) as error:
        raise damaged(path, error) from None
    text = (footer.metadata or {}).get(KEY)
    if text is None:
        raise ValueError(f"{path} is a Parquet file but not of a vqkit {what}")
    header = parse_header(text, path, kind)
    if footer.num_rows != len(header.items):
        rows = f"{footer.num_rows} rows, its header says {len(header.items)}"
        raise ValueError(f"{path} has {rows}; remove it and encode again")
    return header


def parse_header(text: bytes, path: Path, kind: type[Head]) -> Head:
    """A header from its JSON.

    Raises:
        ValueError: If it is damaged, or of another version.
    """
    try:
        plain = json.loads(text)
        version = plain.get("format_version")
        if version == FORMAT_VERSION:
            return TypeAdapter(kind).validate_python(plain)
    except (ValueError, AttributeError, ValidationError) as error:
        raise damaged(path, error) from None
    raise ValueError(
        f"{path}: format_version is {version}, this vqkit reads {FORMAT_VERSION}; "
        "encode the data again"
    )


def damaged(path: Path, error: Exception) -> ValueError:
    """The error for a file that cannot be read, on one line."""
    reason = " ".join(str(error).split())[:200]
    return ValueError(f"{path} is cut or damaged ({reason}); remove it and encode again")
