"""``vqkit export``: a token data set as language models read it."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from vqkit.cli.runs import is_other_process
from vqkit.cli.wording import counted

Tokens = Annotated[Path, typer.Argument(metavar="TOKENS", help="What vqkit encode wrote.")]
Out = Annotated[Path, typer.Argument(metavar="OUT", help="The folder of the export, a new one.")]
Format = Annotated[
    Literal["memmap", "bin-idx", "parquet"],
    typer.Option("--format", help="A flat file, an indexed pair, or rows with input_ids."),
]
Bos = Annotated[bool, typer.Option("--bos/--no-bos", help="Whether a token begins each item.")]
Eos = Annotated[bool, typer.Option("--eos/--no-eos", help="Whether a token ends each item.")]
PadTo = Annotated[
    int | None, typer.Option("--pad-to", min=1, help="Fill each item up to so many tokens.")
]
FirstId = Annotated[
    int, typer.Option("--first-id", min=0, help="Id of the first code, behind other vocabularies.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the export that is there.")]


def export(
    tokens: Tokens,
    out: Out,
    format: Format = "memmap",
    bos: Bos = True,
    eos: Eos = True,
    pad_to: PadTo = None,
    first_id: FirstId = 0,
    force: Force = False,
) -> None:
    """Write tokens for a language model: one flat vocabulary, one sequence for each item.

    Example: vqkit export tokens/photos photos.memmap --format memmap
    """
    from vqkit.tokens import TokenSet, export_tokens

    if is_other_process():
        return
    found = export_tokens(
        TokenSet.open(tokens),
        out,
        format,
        first_id=first_id,
        bos=bos,
        eos=eos,
        pad_to=pad_to,
        replace=force,
        progress=True,
    )
    header = found.header
    size = f"{header['num_tokens']:,} tokens of {header['vocabulary_size']:,} kinds"
    print(f"{counted(len(found), 'sequence')}, {size}, {header['dtype']}: {out}")
