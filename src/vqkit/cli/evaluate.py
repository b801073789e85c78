"""``vqkit evaluate``: figures, pictures and a report page, in the run folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqkit.cli.beginning import TOKENIZER
from vqkit.cli.drawing import Sampling, draw
from vqkit.cli.options import BatchSize, DataWords, Device, NumWorkers
from vqkit.cli.runs import check_trained, choose_device, images_of, open_tokenizer
from vqkit.cli.token_parts import held_out_images
from vqkit.cli.train_prior import FIGURES, baselines, class_names
from vqkit.cli.wording import counted

if TYPE_CHECKING:
    from vqkit.evaluation import Samples
    from vqkit.priors import Prior

PER_CLASS, MOST_CLASSES, UNLABELLED = 8, 20, 32
SHOWN = {
    "psnr_db": "PSNR, dB",
    "ssim": "SSIM",
    "mse_over_variance": "MSE / variance",
    "bits_per_dim_uniform": "bits per dimension, uniform prior",
    "bits_per_dim_prior": "bits per dimension, this prior",
    "code_reliance_bits_per_dim": "saved by own codes, bits/dim",
    "nats_per_token_prior": "nats per token, this prior",
}

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of either model.")]
Data = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="Images to judge by; those held out when left out."),
]


def evaluate(
    run: Run,
    data: Data = None,
    words: DataWords = None,
    batch_size: BatchSize = 64,
    num_workers: NumWorkers = 0,
    device: Device = "auto",
) -> None:
    """Measure a run on images that it has not seen: metrics.json, pictures/ and report.html.

    Given the run of a prior, its samples are shown and the codes are measured by it, too.

    Example: vqkit evaluate runs/photos
    """
    from vqkit import evaluation
    from vqkit.distributed import is_main
    from vqkit.priors import Prior
    from vqkit.training import join_processes

    if data is not None and "=" in data:  # a setting, and no data
        data, words = None, [data, *(words or ())]
    join_processes(cpu=device == "cpu")
    place = choose_device(device)
    check_trained(run, "vqkit train")
    prior = Prior.from_pretrained(run, device=place) if is_prior(run) else None
    home = run if prior is None else run / TOKENIZER
    model = open_tokenizer(home, device)
    if prior is not None and data is None:
        examples = held_out_images(run, home, words or ())
    else:
        examples = images_of(home, data, words or ())
    if prior is not None:
        check_classes(examples.labels, class_names(run, prior.num_classes), data)
    found = evaluation.evaluate(
        model,
        examples,
        split="held-out" if data is None else data,
        prior=prior,
        batch_size=batch_size,
        device=place,
        num_workers=num_workers,
        progress=True,
    )
    if is_main():
        samples = [] if prior is None else sample_groups(prior, run, place)
        page = evaluation.write_report(run, found, title=str(run), samples=samples)
        print("\n".join(summary(found.metrics)))
        print(f"report: {page}")


def is_prior(run: Path) -> bool:
    """Whether a run folder holds a prior, and not a tokenizer."""
    from vqkit.storage import load_config

    return load_config(run).get("kind") == "prior"


def check_classes(labels: Sequence[str], classes: Sequence[str], data: str | None) -> None:
    """Raises ValueError unless the images have the classes that a prior was trained with."""
    if classes and list(labels) != list(classes):
        have = f"classes {', '.join(labels[:5])}" if labels else "no classes"
        raise ValueError(
            f"{data or 'the data'} has {have}, the prior {', '.join(classes[:5])}; put the images "
            "into a folder for each class, of the same names"
        )


def summary(metrics: dict[str, Any]) -> list[str]:
    """The figures worth a glance, a line each."""
    lines = [f"over {counted(metrics['num_items'], 'image')}, {metrics['split']}:"]
    lines += [f"  {SHOWN[key]:<34} {metrics[key]:.4f}" for key in SHOWN if key in metrics]
    for level in metrics["levels"]:
        for book in level["codebooks"]:
            lines.append(f"  {'perplexity':<34} {book['perplexity']:.1f} of {book['size']}")
            lines.append(f"  {'entries used':<34} {book['usage']:.1%}")
    return lines


def sample_groups(prior: "Prior", run: Path, device: str) -> Sequence["Samples"]:
    """Images from the baselines and from a prior, those of one class together."""
    from vqkit.evaluation import Samples
    from vqkit.storage import read_json

    tokenizer = open_tokenizer(run / TOKENIZER, device)
    classes = class_names(run, prior.num_classes)[:MOST_CLASSES]
    how = Sampling(num=PER_CLASS * len(classes) or UNLABELLED)
    order = sorted(range(how.num), key=lambda i: i % len(classes)) if classes else None
    nats = read_json(run / FIGURES)["nats_per_token"]
    groups = []
    for name, each in {**baselines(run, prior), prior.config.type: prior}.items():
        images = draw(each, tokenizer, how)
        labels = None if order is None else tuple(classes[i % len(classes)] for i in order)
        images = images if order is None else images[order]
        note = f"{nats[name]:.3f} nats per token, held out" if name in nats else ""
        groups.append(Samples(name, images, labels, note))
    return groups
