"""``vqkit sample``: new items out of a prior."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqkit.cli.drawing import RECORD, SHEET, Sampling, draw, foreign, write_samples
from vqkit.cli.options import (
    BatchSize,
    Device,
    Force,
    Guidance,
    NewFolder,
    Num,
    PriorRun,
    Seed,
    Steps,
    Temperature,
    TopK,
    TopP,
)
from vqkit.cli.runs import check_trained, choose_device, is_other_process
from vqkit.cli.train_prior import baselines, class_names, tokenizer_of
from vqkit.cli.wording import counted

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.modalities.base import Modality
    from vqkit.priors import Prior

Class = Annotated[
    str | None,
    typer.Option("--class", "-c", help="Name or number of the class; all in turn when left out."),
]
Compare = Annotated[
    bool, typer.Option("--compare", help="Also uniform and histogram codes, side by side.")
]


def sample(
    prior: PriorRun,
    out: NewFolder,
    num: Num = 64,
    class_: Class = None,
    seed: Seed = 0,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = None,
    guidance: Guidance = 1.0,
    steps: Steps = None,
    compare: Compare = False,
    force: Force = False,
    batch_size: BatchSize = 64,
    device: Device = "auto",
) -> None:
    """Draw new items from a prior: a file each, and a contact sheet.

    Example: vqkit sample runs/prior -n 100 -o samples --temperature 0.9
    """
    if is_other_process():
        return
    check_free(out, force)
    how = Sampling(
        num=num,
        seed=seed,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        guidance=guidance,
        steps=steps,
        batch_size=batch_size,
    )
    learned, tokenizer, classes = open_prior(prior, device)
    if class_ is not None:
        how = replace(how, label=class_number(class_, classes))
    items = {}
    if compare:
        plain = replace(how, guidance=1.0, steps=None)  # the baselines have neither
        for name, baseline in baselines(prior, learned).items():
            items[name] = draw(baseline, tokenizer, plain, progress=True)
    items["learned"] = draw(learned, tokenizer, how, progress=True)
    check_free(out, force)  # again, for drawing takes long
    kind = tokenizer.objective.modality
    write_samples(out, items, kind, how, classes, replace=force)
    say_written(out, num, kind)


def open_prior(run: Path, device: str) -> "tuple[Prior, VQVAE, list[str]]":
    """The trained prior of a run, the tokenizer in it, and the names of its classes."""
    from vqkit.priors import Prior

    check_trained(run, "vqkit train-prior")
    place = choose_device(device)
    prior = Prior.from_pretrained(run, device=place)
    return prior, tokenizer_of(run, place), class_names(run, prior.num_classes)


def say_written(out: Path, num: int, kind: "Modality") -> None:
    """Says where the items are."""
    print(f"{counted(num, kind.item)}: {out}")
    if (out / SHEET).is_file():
        print(f"contact sheet: {out / SHEET}")


def check_free(out: Path, force: bool) -> None:
    """Raises ValueError if samples may not be written to a folder."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    if not out.is_dir() or not (out / RECORD).is_file():
        raise ValueError(f"{out} exists and holds no samples; choose another folder with -o")
    if not force:
        raise ValueError(f"{out} holds samples; choose another folder with -o, or add --force")
    if others := foreign(out):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise ValueError(
            f"{out} holds {others[0]}{more} besides samples; move that away, or choose another "
            "folder with -o"
        )


def class_number(name: str, names: list[str]) -> int:
    """The number of a class, by its name or its number.

    Raises:
        ValueError: If there is no such class.
    """
    if not names:
        raise ValueError(f"--class {name}: the prior was trained without classes; leave it out")
    if name in names:
        return names.index(name)
    numbers = any(each.isdecimal() for each in names)  # then a number is a name, mistyped
    if name.isdecimal() and not numbers and int(name) < len(names):
        return int(name)
    shown = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    raise ValueError(f"--class {name}: there is no such class; there are {shown}")
