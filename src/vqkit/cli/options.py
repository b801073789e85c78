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
PriorRun = Annotated[
    Path, typer.Argument(metavar="PRIOR", help="The run folder of vqkit train-prior.")
]
NewFolder = Annotated[
    Path, typer.Option("--out", "-o", help="The folder of what is made, a new one.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the samples that are there.")]
Num = Annotated[int, typer.Option("--num", "-n", min=1, help="Number of items.")]
Seed = Annotated[int, typer.Option("--seed", help="Sample i depends on it and i.")]
Temperature = Annotated[
    float, typer.Option("--temperature", help="Below 1 more typical, above 1 more varied.")
]
TopK = Annotated[
    int | None, typer.Option("--top-k", min=1, help="Draw from the k most probable codes.")
]
TopP = Annotated[
    float | None,
    typer.Option("--top-p", help="Draw from the codes that hold p of the mass; 0: the best alone."),
]
Guidance = Annotated[
    float, typer.Option("--guidance", help="Above 1, hold closer to the class than trained.")
]
Steps = Annotated[
    int | None, typer.Option("--steps", min=1, help="Steps of a prior that draws in parallel.")
]
