"""Arguments that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Words = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Settings that count more than the file's."),
]
DataWords = Annotated[
    list[str] | None,
    typer.Argument(metavar="[KEY=VALUE]...", help="Other settings than the run's, of data alone."),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of a tokenizer.")]
Device = Annotated[
    str, typer.Option("--device", help="auto (the GPU when there is one), cpu, cuda or cuda:1.")
]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Items computed at once.")]
NumWorkers = Annotated[
    int, typer.Option("--num-workers", min=0, help="Processes that read ahead; 0 for none.")
]
