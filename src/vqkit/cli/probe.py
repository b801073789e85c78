"""``vqkit probe``: how useful the codes of a run are to tell classes apart."""

import json
from typing import Annotated, Any

import typer

from vqkit.cli.options import BatchSize, DataWords, Device, NumWorkers, Run
from vqkit.cli.runs import is_other_process, open_tokenizer, splits_of
from vqkit.cli.wording import counted

HEADS = ("", "features", "accuracy", "95 % interval", "penalty")

Data = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="Other data than the run's, split as these."),
]
Most = Annotated[int, typer.Option("--most", min=4, help="Most items to learn from.")]
Seed = Annotated[
    int, typer.Option("--seed", help="Chooses them, and those that the penalty is chosen on.")
]


def probe(
    run: Run,
    data: Data = None,
    words: DataWords = None,
    most: Most = 10_000,
    seed: Seed = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    batch_size: BatchSize = 64,
    num_workers: NumWorkers = 0,
    device: Device = "auto",
) -> None:
    """Learn classes from codes, and judge that by held-out items: probe.json in the run folder.

    Beside it stand what the encoder gave before it was quantized, and the items themselves.

    Example: vqkit probe runs/photos
    """
    from vqkit import evaluation
    from vqkit.evaluation.probe import check_labels, check_sklearn
    from vqkit.evaluation.probe_sections import PROBE
    from vqkit.storage import write_json

    if is_other_process():
        return
    if data is not None and "=" in data:  # a setting, and no data
        data, words = None, [data, *(words or ())]
    check_sklearn()
    model = open_tokenizer(run, device)
    items = splits_of(run, data, words or ())
    check_labels(items.train, items.evaluation, model)
    found = evaluation.probe(
        model,
        items.train,
        items.evaluation,
        seed=seed,
        most=most,
        batch_size=batch_size,
        num_workers=num_workers,
        progress=True,
    )
    found = {"split": "held-out" if data is None else data, **found}
    write_json(run / PROBE, found)
    if json_:
        print(json.dumps({"run": str(run), **found}, indent=2))
        return
    print("\n".join(summary(found, model.objective.modality.item)))
    print(f"figures: {run / PROBE}")


def summary(found: dict[str, Any], item: str) -> list[str]:
    """The figures worth a glance, a line each."""
    from vqkit.evaluation.probe_sections import NAMES

    over = f"{counted(found['num_held_out'], item)}, {found['split']}"
    learned = f"learned from {found['num_train']:,}, {len(found['classes'])} classes"
    rows = [row(NAMES[key], each) for key, each in found["features"].items()]
    rows.append(row("most frequent class", found["majority_class"]))
    lines = [f"over {over}; {learned}:", *table([HEADS, *rows])]
    units = found["units"]
    for unit in units:
        where = [f"level {unit['level'] + 1}"] if units[-1]["level"] else []
        where += [f"codebook {unit['codebook'] + 1}"] if codebooks(units, unit) > 1 else []
        name = " ".join(["codes and classes", *([f"({', '.join(where)})"] if where else [])])
        lines += [
            f"{name}, over {unit['num_positions']:,} codes:",
            f"  {'normalised mutual information':<34} {unit['nmi']:.4f}",
            f"  {'class entropy that a code tells':<34} {unit['label_information']:.4f}",
            f"  {'class purity, by code':<34} {unit['label_purity']:.1%}, "
            f"without codes {unit['majority']:.1%}",
            f"  {'code purity, by class':<34} {unit['code_purity']:.1%}",
        ]
    return lines


def codebooks(units: list[dict[str, Any]], unit: dict[str, Any]) -> int:
    """How many codebooks the level of one has."""
    return sum(other["level"] == unit["level"] for other in units)


def row(name: str, accuracy: dict[str, Any]) -> tuple[str, ...]:
    """A line of the table of accuracies."""
    low, high = accuracy["interval"]
    penalty = accuracy["penalty"]
    return (
        name,
        f"{accuracy['num_features']:,}" if accuracy["num_features"] else "",
        f"{accuracy['accuracy']:.1%}",
        f"{low:.1%} to {high:.1%}",
        "" if penalty is None else f"{penalty:g}",
    )


def table(rows: list[tuple[str, ...]]) -> list[str]:
    """Lines with columns below each other, the first to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *others in rows:
        cells = [cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True)]
        lines.append(f"  {first.ljust(widths[0])}  {'  '.join(cells)}".rstrip())
    return lines
