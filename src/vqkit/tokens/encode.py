"""Encodes a data set, shard by shard, on any number of processes."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vqkit.codes import LevelSpec
from vqkit.data.batch import Batch, collate
from vqkit.data.example import Examples
from vqkit.nn.evaluating import device_of
from vqkit.tokens.rows import Row, rows
from vqkit.tokens.sharding import write_shards
from vqkit.tokens.shards import TOKENS, Header
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
    filled up: the tokens do not depend on where an earlier run stopped. Where items are of any
    size, those of one size within a batch are encoded together, and nothing is filled up.

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
    check_sizes(batch_size, shard_size)
    folder = Path(folder)
    TOKENS.check_place(folder)
    write_shards(
        TOKENS,
        header_of(model, examples, shard_size),
        examples,
        folder,
        lambda batch: encode_batch(model, examples, batch, batch_size),
        batch_size=batch_size,
        num_workers=num_workers,
        progress=progress,
    )


def check_sizes(batch_size: int, shard_size: int) -> None:
    """Raises ValueError unless both are at least 1."""
    if batch_size < 1 or shard_size < 1:
        raise ValueError(f"batch_size is {batch_size}, shard_size {shard_size}; give at least 1")


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


def encode_batch(model: "VQVAE", examples: Examples, batch: Batch, batch_size: int) -> list[Row]:
    """The items of one batch in order, each without padding."""
    found: dict[int, Row] = {}
    device, most = device_of(model), at_once(model, batch_size)
    for part in by_size(batch):
        mask = None if part.mask is None else fill(part.mask, most).to(device)
        codes = model.encode(fill(part.x, most).to(device), mask)[: len(part)]
        size = tuple(part.x.shape[2:]) if takes_any_size(model) else None
        numbers = part.positions.tolist()
        labels = [None] * len(part) if part.labels is None else part.labels.tolist()
        same = rows(codes, [id_of(examples, number) for number in numbers], labels, size)
        found |= zip(numbers, same, strict=True)
    return [found[number] for number in batch.positions.tolist()]


def fill(x: Tensor, size: int) -> Tensor:
    """A batch made ``size`` long by copies of its last item. (B, ...) -> (size, ...)"""
    return torch.cat([x, x[-1:].expand(size - len(x), *x.shape[1:])]) if len(x) < size else x


def takes_any_size(model: "VQVAE") -> bool:
    """Whether items are padded to whole codes, so that codes do not tell how long an item is."""
    return hasattr(model.encoder, "padded")


def at_once(model: "VQVAE", batch_size: int) -> int:
    """How many items a batch is filled up to: 1, which fills nothing, where items are of any size.

    There each size is a batch of its own, and most of them would be copies.
    """
    return 1 if takes_any_size(model) else batch_size


def id_of(examples: Examples, index: int) -> str:
    """The name of an item, its number when the data has no names."""
    name = getattr(examples, "id", None)
    return str(index) if name is None else name(index)
