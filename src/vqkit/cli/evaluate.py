"""``vqkit evaluate``: figures, pictures and a report page, in the run folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqkit.cli.beginning import TOKENIZER
from vqkit.cli.drawing import Sampling, draw
from vqkit.cli.generation import (
    NUM_SAMPLES,
    Subject,
    check_features,
    generation_of,
    in_short,
    judged,
    training_items,
)
from vqkit.cli.options import (
    BatchSize,
    DataWords,
    Device,
    Guidance,
    NumWorkers,
    Steps,
    Temperature,
    TopK,
    TopP,
)
from vqkit.cli.runs import check_trained, choose_device, config_of, items_of, open_tokenizer
from vqkit.cli.token_parts import prior_items
from vqkit.cli.train_prior import FIGURES, HISTOGRAM, baselines, class_names, tokenizer_of
from vqkit.cli.wording import counted
from vqkit.drawing import PLAIN, Drawing, changed

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.data import Items
    from vqkit.evaluation import Evaluation, Generation, Samples
    from vqkit.modalities.base import Modality
    from vqkit.priors import Prior

PER_CLASS, MOST_CLASSES, UNLABELLED = 8, 20, 32
SHOWN = {
    "bits_per_dim_uniform": "{}, uniform prior",
    "bits_per_dim_prior": "{}, this prior",
    "code_reliance_bits_per_dim": "saved by own codes, {}",
    "nats_per_token_prior": "nats per token, this prior",
}

Run = Annotated[Path, typer.Argument(metavar="RUN", help="The run folder of either model.")]
Data = Annotated[
    str | None,
    typer.Argument(metavar="[DATA]", help="Items to judge by; those held out when left out."),
]
Num = Annotated[
    int | None,
    typer.Option(
        "--samples",
        min=0,
        help=f"New items by which a prior is judged, 0 for none; {NUM_SAMPLES} when left out.",
    ),
]
Features = Annotated[
    str | None,
    typer.Option(
        "--features",
        metavar="SPACE",
        help="What they are compared in: classifier (when left out, if there are classes), "
        "encoder, or FILE.onnx.",
    ),
]


def evaluate(
    run: Run,
    data: Data = None,
    words: DataWords = None,
    samples: Num = None,
    features: Features = None,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = None,
    guidance: Guidance = 1.0,
    steps: Steps = None,
    batch_size: BatchSize = 64,
    num_workers: NumWorkers = 0,
    device: Device = "auto",
) -> None:
    """Measure a run on items that it has not seen: metrics.json, pictures/ and report.html.

    Given the run of a prior, its samples are shown and the codes are measured by it, too.

    Example: vqkit evaluate runs/photos
    """
    from vqkit import evaluation
    from vqkit.distributed import is_main
    from vqkit.priors import Prior
    from vqkit.training import join_processes

    if data is not None and "=" in data:  # a setting, and no data
        data, words = None, [data, *(words or ())]
    how = Drawing(temperature=temperature, top_k=top_k, top_p=top_p, guidance=guidance, steps=steps)
    join_processes(cpu=device == "cpu")
    place = choose_device(device)
    check_trained(run, "vqkit train-prior" if (run / TOKENIZER).is_dir() else "vqkit train")
    prior = Prior.from_pretrained(run, device=place) if is_prior(run) else None
    num = checked_samples(samples, features, prior, how, run)
    home = run if prior is None else run / TOKENIZER
    model = open_tokenizer(home, device) if prior is None else tokenizer_of(run, device)
    num = judged(num, samples, model.objective.modality)
    training, examples = measured_items(run, home, prior, data, words or (), new=num > 0)
    generation = None
    if prior is not None:
        check_classes(examples.labels, class_names(run, prior.num_classes), data)
        if num:
            subject = Subject(run, prior, model, examples, training)
            generation = generation_of(
                subject, features, num, how=how, batch_size=batch_size, num_workers=num_workers
            )
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
    found = searched(found, run, model, examples) if prior is None else found
    if is_main():
        drawn = [] if prior is None else sample_groups(prior, model, run, how, batch_size)
        show(run, found, drawn, generation)


def searched(found: "Evaluation", run: Path, model: "VQVAE", examples: "Items") -> "Evaluation":
    """An evaluation with how well codes find the nearest training items, if these are vectors."""
    from vqkit.evaluation import with_search

    if model.objective.modality.name != "vector":
        return found
    return with_search(found, model, config_of(run).data.open(folder=run).train, examples)


def show(
    run: Path,
    found: "Evaluation",
    drawn: Sequence["Samples"],
    generation: "Generation | None",
) -> None:
    """Writes all that was found into the run folder, and prints the figures worth a glance."""
    from vqkit.evaluation import write_report

    page = write_report(run, found, title=str(run), samples=drawn, generation=generation)
    print("\n".join(summary(found.metrics, found.modality)))
    if generation is not None:
        print("\n".join(in_short(generation.metrics)))
    print(f"report: {page}")


def checked_samples(
    samples: int | None, features: str | None, prior: "Prior | None", how: Drawing, run: Path
) -> int:
    """How many new images are drawn; 0 of a tokenizer.

    Raises:
        ValueError: If something was asked for that there is not.
        FileNotFoundError: If the features are a file that is not there, or the baselines are not.
    """
    from vqkit.priors.checks import check_drawing

    plain = PLAIN.settings()
    given = {"--samples": samples is not None, "--features": features is not None} | {
        f"--{name.replace('_', '-')}": value != plain[name]
        for name, value in how.settings().items()
    }
    if prior is None:
        for option in (option for option, is_given in given.items() if is_given):
            raise ValueError(
                f"{option} is for the run of a prior, this is one of a tokenizer; leave it out"
            )
        return 0
    check_compared(run)
    check_features(features)
    if samples == 0 and features is not None:
        raise ValueError("--features is for new images, and --samples is 0; leave one of them out")
    check_drawing(prior, how)
    return NUM_SAMPLES if samples is None else samples


def measured_items(
    run: Path, home: Path, prior: "Prior | None", data: str | None, words: Sequence[str], new: bool
) -> "tuple[Items | None, Items]":
    """Items to judge by, after those that a prior was trained on where new ones are judged."""
    if prior is not None and data is None:
        return prior_items(run, home, words)
    examples = items_of(home, data, words)
    return training_items(run, home) if new else None, examples


def is_prior(run: Path) -> bool:
    """Whether a run folder holds a prior, and not a tokenizer."""
    from vqkit.storage import load_config

    return load_config(run).get("kind") == "prior"


def check_compared(run: Path) -> None:
    """Raises FileNotFoundError unless the baselines of a prior lie beside it."""
    if not (run / FIGURES).is_file() or not (run / HISTOGRAM).is_dir():
        raise FileNotFoundError(
            f"{run} has no baselines beside the prior; run its vqkit train-prior again"
        )


def check_classes(labels: Sequence[str], classes: Sequence[str], data: str | None) -> None:
    """Raises ValueError unless the images have the classes that a prior was trained with."""
    if classes and list(labels) != list(classes):
        have = f"classes {', '.join(labels[:5])}" if labels else "no classes"
        raise ValueError(
            f"{data or 'the data'} has {have}, the prior {', '.join(classes[:5])}; put the images "
            "into a folder for each class, of the same names"
        )


def summary(metrics: dict[str, Any], kind: "Modality") -> list[str]:
    """The figures worth a glance, a line each."""
    from vqkit.evaluation.reliance import finding
    from vqkit.modalities.base import bits_unit

    lines = [f"over {counted(metrics['num_items'], kind.item)}, {metrics['split']}:"]
    for figure in kind.figures:
        if figure.key in metrics:
            name = f"{figure.name}, {figure.unit}" if figure.unit else figure.name
            lines.append(f"  {name:<34} {metrics[figure.key]:.4f}")
    for key in SHOWN:
        if key in metrics:
            bound = key.endswith("_prior") and not metrics.get("prior_exact", True)
            name = SHOWN[key].format(bits_unit(kind))
            lines.append(f"  {name:<34} {'<= ' * bound}{metrics[key]:.4f}")
    for number, level in enumerate(metrics["levels"], start=1):
        where = f", level {number}" if len(metrics["levels"]) > 1 else ""
        for book in level["codebooks"]:
            lines.append(f"  {f'perplexity{where}':<34} {book['perplexity']:.1f} of {book['size']}")
            lines.append(f"  {f'entries used{where}':<34} {book['usage']:.1%}")
    lines += level_lines([level.get("exchanged") for level in metrics["levels"]])
    ignored = finding(metrics)
    return lines if ignored is None else [*lines, f"health: {ignored}"]


def level_lines(figures: Sequence[dict[str, Any] | None]) -> list[str]:
    """What each of several levels carries, and which carry nothing; a line each."""
    from vqkit.evaluation.levels import findings

    known = [each for each in figures if each is not None]
    lines = [
        f"  {f'error, level {number} of another image':<34} {each['mse_rise']:+.1%}"
        if "mse_rise" in each
        else f"  {f'bits/dim, level {number} of another':<34} {each['bits_per_dim_rise']:+.4f}"
        for number, each in enumerate(known, start=1)
    ]
    return lines + [f"health: {line}" for line in findings(known)]


def sample_groups(
    prior: "Prior", tokenizer: "VQVAE", run: Path, how: Drawing, batch_size: int
) -> Sequence["Samples"]:
    """Items from the baselines, plainly, and from a prior; those of one class together."""
    from vqkit.evaluation import Samples
    from vqkit.evaluation.gallery import pictures_of
    from vqkit.storage import read_json

    classes = class_names(run, prior.num_classes)[:MOST_CLASSES]
    num = PER_CLASS * len(classes) or UNLABELLED
    labels = [i % len(classes) for i in range(num)] if classes else None
    order = sorted(range(num), key=lambda i: i % len(classes)) if classes else None
    nats = read_json(run / FIGURES)["nats_per_token"]
    groups, kind = [], tokenizer.objective.modality
    others = baselines(run, prior)
    own = prior.config.type if prior.config.type not in others else f"this {prior.config.type}"
    for name, each in {**others, own: prior}.items():
        settings = (how if each is prior else PLAIN).settings()
        items = draw(
            each, tokenizer, Sampling(num=num, batch_size=batch_size, **settings), labels=labels
        )
        names = None if order is None else tuple(classes[i % len(classes)] for i in order)
        items = items if order is None else [items[i] for i in order]
        images = pictures_of(kind, items)
        played = [kind.media(item) for item in items]
        media = tuple(each for each in played if each is not None)
        if images is None and not media:
            return []
        bound = "" if each.exact else "at most "
        cost = nats.get(prior.config.type if each is prior else name)
        note = "" if cost is None else f"{bound}{cost:.3f} nats per token, held out"
        note = ", ".join(filter(None, [note, changed(settings)]))
        groups.append(Samples(name, images, names, note, media))
    return groups
