"""``vqkit encode``: a data set as tokens."""

from pathlib import Path
from typing import Annotated

import typer

from vqkit.cli.options import BatchSize, DataWords, Device, NumWorkers, Run
from vqkit.cli.runs import images_of, open_tokenizer

Data = Annotated[str, typer.Argument(metavar="DATA", help="Images, as for data.path.")]
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
    from vqkit.tokens import TokenSet, encode_dataset
    from vqkit.training import join_processes

    join_processes(cpu=device == "cpu")
    model = open_tokenizer(run, device)
    examples = images_of(run, data, words or ())
    encode_dataset(
        model,
        examples,
        out,
        batch_size=batch_size,
        shard_size=shard_size,
        num_workers=num_workers,
        progress=True,
    )
    if is_main():
        tokens = TokenSet.open(out)
        each = sum(spec.num_tokens for spec in tokens.specs)
        print(f"{len(tokens)} items of {each} tokens each: {out}")
        print(f"  vqkit train-prior {out} --tokenizer {run}    learns what codes are likely")
