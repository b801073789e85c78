"""Restores items from a token set."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, cast

from torch import Tensor

from vqkit.atomic import remove_left
from vqkit.codes import Codes, LevelSpec
from vqkit.distributed import barrier, is_main, rank, world_size
from vqkit.modalities.base import Collecting, Modality
from vqkit.nn.evaluating import device_of
from vqkit.storage import FORMAT_VERSION, read_json, write_json
from vqkit.tokens.encode import at_once, fill
from vqkit.tokens.names import file_names
from vqkit.tokens.progress import advancing
from vqkit.tokens.token_set import TokenSet

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE

MARK = "decoded.json"
WRITERS = 16
AT_ONCE = 64  # batches of items that go into one file: among many, most have others of their size


def decode_dataset(
    model: "VQVAE",
    tokens: TokenSet,
    folder: Path | str,
    *,
    batch_size: int = 64,
    progress: bool = False,
) -> None:
    """Writes the file of every item, named by its id.

    Files that are there already are kept, so running it again continues where it stopped. Ranks
    take batches in turn, and every batch has ``batch_size`` items, the last one being filled up:
    an item is bit for bit the model's own reconstruction at that batch size.

    Args:
        model: The tokenizer that made the tokens, on its device.
        tokens: What is decoded.
        folder: Where the files go; made when missing.
        batch_size: Items decoded at once.
        progress: Whether to show a bar.

    Raises:
        ValueError: If another tokenizer made the tokens, or the folder holds anything else.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size is {batch_size}; give at least 1")
    tokens.check_tokenizer(model)
    folder = Path(folder)
    if is_main():
        claim(folder, tokens, model.objective.modality)
    barrier()
    modality = model.objective.modality
    if modality.collection is not None and not have_files(tokens, modality.suffix):
        if is_main() and not (folder / modality.collection).exists():
            together(model, tokens, folder / modality.collection, batch_size, progress)
        barrier()
        return
    names = list(file_names((tokens.id(i) for i in range(len(tokens))), modality.suffix))
    starts = range(0, len(tokens), batch_size)[rank() :: world_size()]
    batches = [range(start, min(start + batch_size, len(tokens))) for start in starts]
    with advancing("decoding", sum(map(len, batches)), show=progress) as advance:
        for items in batches:
            if not all((folder / names[i]).exists() for i in items):
                found = decode_items(model, tokens, items, batch_size)
                save_missing(folder, [names[i] for i in items], found, modality)
            advance(len(items))
    barrier()
    if is_main():  # what killed runs left behind
        remove_left(folder.rglob(f".*{modality.suffix}.*.part"))


def have_files(tokens: TokenSet, suffix: str) -> bool:
    """Whether every item had a file of its own, by the ends of their names."""
    return all(tokens.id(i).lower().endswith(suffix) for i in range(len(tokens)))


def claim(folder: Path, tokens: TokenSet, modality: Modality) -> None:
    """Marks a new or empty folder as the place of these items.

    Raises:
        ValueError: If it holds anything but items of the same tokens.
    """
    mark = {
        "kind": "decoded",
        "format_version": FORMAT_VERSION,
        "tokenizer": tokens.tokenizer,
        "tokens": tokens.fingerprint,
        "num_items": len(tokens),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / MARK
    if path.exists():
        if read_json(path) != mark:
            raise ValueError(
                f"{folder} holds the {modality.items} of other tokens; give another folder"
            )
    elif any(folder.iterdir()):
        raise ValueError(f"{folder} is not empty; give a new folder for the {modality.items}")
    else:
        write_json(path, mark)


def decode_items(
    model: "VQVAE", tokens: TokenSet, items: Sequence[int], batch_size: int
) -> list[Tensor]:
    """Some items in order, those of one size together, as their files hold them. Each (C, *grid)"""
    codes = [tokens.codes(i) for i in items]
    groups: dict[tuple[LevelSpec, ...], list[int]] = {}
    for place, part in enumerate(codes):
        groups.setdefault(part.specs, []).append(place)
    found: dict[int, Tensor] = {}
    for group in groups.values():
        for start in range(0, len(group), batch_size):
            same = group[start : start + batch_size]
            batch = Codes.cat([codes[place] for place in same])
            batch = batch.map(lambda x: fill(x, at_once(model, batch_size))).to(device_of(model))
            stored = model.objective.modality.stored(model.decode(batch)).cpu()
            found |= zip(same, stored, strict=False)
    sizes = [tokens.size(i) for i in items]
    whole = [found[place] for place in range(len(items))]
    return [x if size is None else cut(x, size) for x, size in zip(whole, sizes, strict=True)]


def cut(x: Tensor, size: tuple[int, ...]) -> Tensor:
    """The first so many positions along each axis of an item. (C, *more) -> (C, *size)"""
    return x[(slice(None), *map(slice, size))].contiguous()


def together(model: "VQVAE", tokens: TokenSet, path: Path, batch_size: int, progress: bool) -> None:
    """Writes all items into one file."""
    size = AT_ONCE * batch_size

    def items() -> Iterator[Tensor]:
        with advancing("decoding", len(tokens), show=progress) as advance:
            for start in range(0, len(tokens), size):
                part = range(start, min(start + size, len(tokens)))
                yield from decode_items(model, tokens, part, batch_size)
                advance(len(part))

    cast(Collecting, model.objective.modality).save_all(path, items())


def save_missing(
    folder: Path, names: Sequence[PurePosixPath], items: Sequence[Tensor], modality: Modality
) -> None:
    """Writes the items that are not there yet, each whole or not at all."""

    def save(name: PurePosixPath, item: Tensor) -> None:
        path = folder / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            modality.save(path, item)

    with ThreadPoolExecutor(WRITERS) as pool:  # most of the time goes by waiting for the disk
        list(pool.map(save, names, items))
