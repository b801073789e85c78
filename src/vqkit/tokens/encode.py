"""Encodes a data set, shard by shard, on any number of processes."""

import hashlib
from fnmatch import fnmatch
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vqkit.codes import LevelSpec
from vqkit.data.batch import Batch, collate
from vqkit.data.example import Examples
from vqkit.data.loader import in_order
from vqkit.distributed import barrier, is_main, rank, world_size
from vqkit.nn.evaluating import device_of
from vqkit.tokens.progress import advancing
from vqkit.tokens.rows import Row, rows
from vqkit.tokens.shards import PATTERN, Header, read_header, write_shard
from vqkit.tokens.sizes import by_size

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE


def encode_dataset(
    model: "VQVAE",
    examples: Examples,
    folder: Path | str,
    *,
    batch_size: int = 64,
    shard_size: int = 8192,
    num_workers: int = 0,
    progress: bool = False,
) -> None:
    """Writes the tokens of all examples as Parquet shards, in order.

    Shards that are there already are kept, so running it again continues where it stopped. Ranks
    take shards in turn. Every batch has ``batch_size`` items, the last one of a shard being
    filled up: the tokens do not depend on where an earlier run stopped.

    Args:
        model: The tokenizer, on its device.
        examples: What is encoded, without augmentation.
        folder: Where the shards go; made when missing.
        batch_size: Items encoded at once.
        shard_size: Items per file; what is lost at most when the run is killed.
        num_workers: Processes that read ahead; 0 reads in this one.
        progress: Whether to show a bar.

    Raises:
        ValueError: If there are no examples, or the folder holds tokens of another tokenizer, of
            other data or in other shards, or no tokens but something else.
    """
    if batch_size < 1 or shard_size < 1:
        raise ValueError(f"batch_size is {batch_size}, shard_size {shard_size}; give at least 1")
    folder = Path(folder)
    check_place(folder)
    header = header_of(model, examples, shard_size)
    folder.mkdir(parents=True, exist_ok=True)
    # By number, not by place among the missing: ranks may look while others already write.
    missing = missing_shards(folder, header)
    mine = [shard for shard in missing if shard.shard % world_size() == rank()]
    total = sum(len(shard.items) for shard in mine)
    with advancing("encoding", total, show=progress) as advance:
        for shard in mine:
            items: list[Row] = []
            for batch in in_order(
                examples, batch_size, indices=shard.items, num_workers=num_workers
            ):
                items += encode_batch(model, examples, batch, batch_size)
                advance(len(batch))
            write_shard(folder / shard.name, shard, items)
    barrier()
    if is_main():  # what killed runs left behind
        for part in folder.glob(f".{PATTERN}.*.part"):
            part.unlink(missing_ok=True)


def check_place(folder: Path) -> None:
    """Raises ValueError unless a folder is new, empty or a token set."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; give another folder for the tokens")
    names = sorted(path.name for path in folder.iterdir())
    others = [name for name in names if not fnmatch(name, f".{PATTERN}.*.part")]
    if others and not any(fnmatch(name, PATTERN) for name in others):
        raise ValueError(
            f"{folder} holds {others[0]} and is no token set; give another folder for the tokens"
        )


def header_of(model: "VQVAE", examples: Examples, shard_size: int) -> Header:
    """What all shards will say.

    Raises:
        ValueError: If there are no examples.
    """
    if not len(examples):
        raise ValueError("the data has 0 items; there is nothing to encode")
    levels = levels_of(model, examples)
    return Header(
        tokenizer=model.fingerprint(),
        source=source_of(examples),
        labels=tuple(getattr(examples, "labels", ())),
        levels=levels,
        vocabulary=max(size for spec in levels for size in spec.codebook_sizes),
        num_items=len(examples),
        shard_size=shard_size,
        num_shards=-(-len(examples) // shard_size),
    )


def source_of(examples: Examples) -> str:
    """A name for the data as they are encoded: their files, and how the first one is decoded."""
    first = examples.example(0).x.contiguous()
    digest = hashlib.sha256(getattr(examples, "fingerprint", "").encode())
    digest.update(f"{first.dtype} {tuple(first.shape)}\n".encode())
    digest.update(first.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def levels_of(model: "VQVAE", examples: Examples) -> tuple[LevelSpec, ...]:
    """The shapes of the levels of the first item."""
    first = collate([examples.example(0)], [0]).to(device_of(model))
    return model.encode(first.x, first.mask).specs


def missing_shards(folder: Path, header: Header) -> list[Header]:
    """The shards that are still to be written.

    Raises:
        ValueError: If a file of the folder belongs to another set, or is damaged.
    """
    wanted = {shard.name: shard for shard in map(header.at, range(header.num_shards))}
    for path in sorted(folder.glob(PATTERN)):
        found = read_header(path)
        difference = differing(found, header)
        if difference is not None:
            raise ValueError(f"{path} {difference}; give another folder, or remove its tokens")
        wanted.pop(found.name)
    return list(wanted.values())


def differing(found: Header, wanted: Header) -> str | None:
    """In words, how a shard differs from those to be written; None when it is one of them."""
    if found.tokenizer != wanted.tokenizer:
        return f"is of tokenizer {found.tokenizer[:12]}, this one is {wanted.tokenizer[:12]}"
    if (found.source, found.num_items) != (wanted.source, wanted.num_items):
        return (
            f"is of other data ({found.num_items} items, fingerprint {found.source[:12]}; now "
            f"{wanted.num_items}, {wanted.source[:12]})"
        )
    if found.shard_size != wanted.shard_size:
        return f"is of shards of {found.shard_size} items, now {wanted.shard_size} are asked for"
    if found.common != wanted.common:
        return "has other labels or levels than this data and tokenizer"
    return None


def encode_batch(model: "VQVAE", examples: Examples, batch: Batch, batch_size: int) -> list[Row]:
    """The items of one batch in order, each without padding."""
    found: dict[int, Row] = {}
    device = device_of(model)
    for part in by_size(batch):
        mask = None if part.mask is None else fill(part.mask, batch_size).to(device)
        codes = model.encode(fill(part.x, batch_size).to(device), mask)[: len(part)]
        numbers = part.positions.tolist()
        labels = [None] * len(part) if part.labels is None else part.labels.tolist()
        same = rows(codes, [id_of(examples, number) for number in numbers], labels)
        found |= zip(numbers, same, strict=True)
    return [found[number] for number in batch.positions.tolist()]


def fill(x: Tensor, size: int) -> Tensor:
    """A batch made ``size`` long by copies of its last item. (B, ...) -> (size, ...)"""
    return torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])]) if len(x) < size else x


def id_of(examples: Examples, index: int) -> str:
    """The name of an item, its number when the data has no names."""
    name = getattr(examples, "id", None)
    return str(index) if name is None else name(index)
