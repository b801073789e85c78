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
) -> None:
    """Write the codes of a data set as Parquet files. The same command again goes on.

    Example: vqkit encode runs/photos photos tokens/photos
    """
    from vqkit.distributed import is_main
    from vqkit.tokens.encode import check_place
    from vqkit.training import join_processes

    check_place(out)  # now, for to read all items takes long
    join_processes(cpu=device == "cpu")
    tokens = encode_items(
        open_tokenizer(run, device),
        items_of(run, data, words or ()),
        out,
        batch_size=batch_size,
        shard_size=shard_size,
        num_workers=num_workers,
    )
    if is_main():
        print(summary(tokens))
        then = command("train-prior", out, "prior-small", "--tokenizer", run)
        print(f"  {then}    learns what codes are likely")


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
    most = "up to " if tokens.ragged else ""
    items, many = counted(len(tokens), "item"), counted(each, "token")
    return f"{items} of {most}{many} each: {tokens.folder}"
