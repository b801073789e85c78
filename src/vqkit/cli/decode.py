"""``vqkit decode``: tokens as files."""

from pathlib import Path
from typing import Annotated

import typer

from vqkit.cli.options import BatchSize, Device, Run
from vqkit.cli.runs import open_tokenizer
from vqkit.cli.wording import counted

Tokens = Annotated[Path, typer.Argument(metavar="TOKENS", help="What vqkit encode wrote.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the files, a new one.")]


def decode(
    run: Run, tokens: Tokens, out: Out, batch_size: BatchSize = 64, device: Device = "auto"
) -> None:
    """Write the items of a token data set as files. The same command again goes on.

    Example: vqkit decode runs/photos tokens/photos restored
    """
    from vqkit.distributed import is_main
    from vqkit.tokens import TokenSet, decode_dataset
    from vqkit.training import join_processes

    join_processes(cpu=device == "cpu")
    model = open_tokenizer(run, device)
    items = TokenSet.open(tokens)
    decode_dataset(model, items, out, batch_size=batch_size, progress=True)
    if is_main():
        print(f"{counted(len(items), model.objective.modality.item)}: {out}")
