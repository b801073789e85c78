"""``vqkit encode``: a data set as tokens."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqkit.cli.options import BatchSize, DataWords, Device, NumWorkers, Run
from vqkit.cli.runs import items_of, open_tokenizer
from vqkit.cli.wording import command, counted

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.data import Examples
    from vqkit.tokens import TokenSet

Data = Annotated[str, typer.Argument(metavar="DATA", help="Data, as for data.path.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the token data set.")]


def encode(
    run: Run,
    data: Data,
    out: Out,
    words: DataWords = None,
    batch_size: BatchSize = 64,
    shard_size: Annotated[int, typer.Option("--shard-size", min=1, help="Items a file.")] = 8192,
    num_workers: NumWorkers = 0,
    device: Device = "auto",
    faiss: Annotated[
        Path | None, typer.Option("--faiss", help="Also an index of Faiss of vectors, a new file.")
    ] = None,
) -> None:
    """Write the codes of a data set as Parquet files. The same command again goes on.

    Example: vqkit encode runs/photos photos tokens/photos
    """
    from vqkit.distributed import is_main
    from vqkit.tokens.encode import check_place
    from vqkit.training import join_processes

    check_place(out)  # now, for to read all items takes long
    join_processes(cpu=device == "cpu")
    model = open_tokenizer(run, device)
    tokens = encode_items(
        model,
        items_of(run, data, words or ()),
        out,
        batch_size=batch_size,
        shard_size=shard_size,
        num_workers=num_workers,
    )
    if is_main():
        print(summary(tokens))
        if faiss is not None:
            write_index(model, tokens, faiss)
        then = command("train-prior", out, "prior-small", "--tokenizer", run)
        print(f"  {then}    learns what codes are likely")


def write_index(model: "VQVAE", tokens: "TokenSet", path: Path) -> None:
    """Writes an index of Faiss that holds the codes of a token set of vectors."""
    from vqkit.atomic import atomic_file
    from vqkit.codes import Codes
    from vqkit.interop.faiss_index import library, to_faiss

    index = to_faiss(model, Codes.cat([tokens.codes(number) for number in range(len(tokens))]))
    with atomic_file(path) as part:
        library().write_index(index, str(part))
    print(f"index of Faiss, {counted(index.ntotal, 'vector')}: {path}")


def encode_items(
    model: "VQVAE",
    items: "Examples",
    out: Path,
    *,
    batch_size: int = 64,
    shard_size: int = 8192,
    num_workers: int = 0,
) -> "TokenSet":
    """The token set of all items, in a folder; what is there already is kept."""
    from vqkit.tokens import TokenSet, encode_dataset

    encode_dataset(
        model,
        items,
        out,
        batch_size=batch_size,
        shard_size=shard_size,
        num_workers=num_workers,
        progress=True,
    )
    return TokenSet.open(out)


def summary(tokens: "TokenSet") -> str:
    """How large a token set is, and where."""
    each = sum(spec.num_tokens for spec in tokens.specs)
    return f"{counted(len(tokens), 'item')} of {counted(each, 'token')} each: {tokens.folder}"
