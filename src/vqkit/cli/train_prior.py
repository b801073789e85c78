"""``vqkit train-prior``: learns which codes are likely."""

import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqkit.cli.beginning import CLASSES, TOKENIZER, keep_config, training_in
from vqkit.cli.runs import CONFIG, open_tokenizer
from vqkit.cli.token_parts import nats_per_token, open_tokens
from vqkit.cli.wording import command

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.cli.token_parts import TokenPart
    from vqkit.config import PriorRunConfig
    from vqkit.priors import Prior
    from vqkit.tokens import TokenSet

HISTOGRAM, FIGURES = "histogram", "priors.json"

Tokens = Annotated[Path, typer.Argument(metavar="TOKENS", help="What vqkit encode wrote.")]
PriorWords = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[PRESET|CONFIG.yaml] [KEY=VALUE]...",
        help="What to start from, and settings that count more.",
    ),
]
Tokenizer = Annotated[
    Path | None,
    typer.Option("--tokenizer", "-t", metavar="RUN", help="The run that made the tokens."),
]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", help="The run folder; runs/prior-NAME when left out."),
]


def train_prior(
    tokens: Tokens, words: PriorWords = None, tokenizer: Tokenizer = None, out: Out = None
) -> None:
    """Train a prior on a token data set. The same command again goes on where it was stopped.

    Example: vqkit train-prior tokens/photos --tokenizer runs/photos -o runs/prior
    """
    from vqkit.config import load_prior_config
    from vqkit.distributed import is_main

    words = list(words or ())
    source = words.pop(0) if words and "=" not in words[0] else None
    folder = out or Path("runs") / f"prior-{tokens.name}"
    for word in words:
        if word.partition("=")[0] == "tokens.path":
            raise ValueError(f"{word}: TOKENS is {tokens} already; leave one of them out")
    config = load_prior_config(source, [*words, f"tokens.path={json.dumps(str(tokens))}"])
    costs = train_prior_run(config, folder, tokenizer)
    if is_main():
        print_nats(costs)
        print(f"trained: {folder}")
        print(f"  {command('sample', folder, '-n', 64, '-o', 'samples')}    draws new ones")


@dataclass(frozen=True)
class Costs:
    """What an integer costs under each prior, over tokens that were held out.

    Attributes:
        nats: Per token, by the name of the prior: the baselines and the learned one.
        bounds: The priors of which that is a bound: it costs at most so much.
    """

    nats: dict[str, float]
    bounds: tuple[str, ...]


def print_nats(costs: Costs) -> None:
    """Shows what an integer costs under each prior."""
    width = max(12, *map(len, costs.nats))
    print("nats per token, over tokens that were held out:")
    for name, value in costs.nats.items():
        print(f"  {name:<{width}} {'at most ' * (name in costs.bounds)}{value:.4f}")
    *_, (name, value) = costs.nats.items()
    if value > costs.nats["histogram"] and name not in costs.bounds:
        print(f"  {name} has not learned how codes go together; train it longer, or give more data")


def train_prior_run(config: "PriorRunConfig", folder: Path, tokenizer: Path | None) -> Costs:
    """Trains the prior of a config in a run folder, or goes on with it."""
    import torch

    from vqkit.priors import CountedPrior, Lengths
    from vqkit.storage import write_json
    from vqkit.training import fit, join_processes
    from vqkit.training.runtime import on_main

    join_processes(cpu=config.train.device == "cpu")
    with training_in(folder, config):
        tokens, train, held_out = open_tokens(config.tokens)
        torch.manual_seed(config.train.seed)
        lengths = Lengths.of(train, tokens.specs) if tokens.ragged else None
        told = tokens.conditioning if config.tokens.labels else None
        prior = config.prior.build(tokens.specs, told, lengths)
        if isinstance(prior, CountedPrior) and not prior.counts_labels:
            prior = config.prior.build(tokens.specs, None, lengths)

        def keep() -> None:
            keep_tokenizer(folder, tokenizer, tokens)
            write_json(folder / CLASSES, list(tokens.labels))
            keep_config(folder, config)

        on_main(keep)
        embed(prior, folder / TOKENIZER)
        fit(prior, train, config.train, folder=folder, eval_examples=held_out)
        return compare(prior, train, held_out, config, folder)


def embed(prior: "Prior", tokenizer: Path) -> None:
    """Gives a prior that sees codes as vectors the entries of the tokenizer that made them."""
    from vqkit.priors import MixturePrior
    from vqkit.quantizers import entry_vectors

    if isinstance(prior, MixturePrior):
        quantizers = open_tokenizer(tokenizer, "cpu").quantizers
        prior.embed([table for each in quantizers for table in entry_vectors(each)])


def compare(
    prior: "Prior",
    train: "TokenPart",
    held_out: "TokenPart",
    config: "PriorRunConfig",
    folder: Path,
) -> Costs:
    """Measures a prior beside the baselines, and keeps them and the figures in its folder."""
    from vqkit.distributed import world_size
    from vqkit.priors import HistogramPrior, UniformPrior
    from vqkit.storage import write_json
    from vqkit.training import fit
    from vqkit.training.runtime import on_main

    quiet = replace(config.train, progress="none", trackers=())
    known = prior.specs, prior.conditioning, prior.lengths
    histogram = fit(HistogramPrior(*known), train, quiet)
    uniform = UniformPrior(*known).to(prior.slot_sizes.device)
    priors = {"uniform": uniform, "histogram": histogram, config.prior.type: prior}
    size = max(1, quiet.batch_size // quiet.micro_batches // world_size())  # as in training
    nats = {name: nats_per_token(each, held_out, size) for name, each in priors.items()}
    bounds = [name for name, each in priors.items() if not each.exact]

    def keep() -> None:
        histogram.save_pretrained(folder / HISTOGRAM)
        figures = {"num_items": len(held_out), "nats_per_token": nats, "bounds": bounds}
        figures["tokenizer"] = train.tokens.tokenizer
        write_json(folder / FIGURES, figures)

    on_main(keep)
    return Costs(nats, tuple(bounds))


def keep_tokenizer(folder: Path, tokenizer: Path | None, tokens: "TokenSet") -> None:
    """Makes the run folder carry a copy of the tokenizer that made the tokens.

    Raises:
        ValueError: If it is another one, or none is given.
    """
    from vqkit.atomic import atomic_folder

    kept = folder / TOKENIZER
    if kept.is_dir():
        for each in (kept, tokenizer):
            if each is not None:
                tokens.check_tokenizer(open_tokenizer(each, "cpu"))
        return
    if tokenizer is None:
        raise ValueError("--tokenizer is missing; give the run folder that made the tokens")
    model = open_tokenizer(tokenizer, "cpu")
    tokens.check_tokenizer(model)
    with atomic_folder(kept) as part:
        model.save_pretrained(part)
        if (tokenizer / CONFIG).is_file():
            shutil.copy(tokenizer / CONFIG, part / CONFIG)


def tokenizer_of(run: Path, device: str) -> "VQVAE":
    """The tokenizer in the run of a prior.

    Raises:
        ValueError: If it is not the one that made the tokens of the prior.
    """
    from vqkit.storage import read_json

    if not (run / TOKENIZER).is_dir():
        raise FileNotFoundError(
            f"{run} has no {TOKENIZER}; run its vqkit train-prior again with --tokenizer"
        )
    model = open_tokenizer(run / TOKENIZER, device)
    path = run / FIGURES
    known = read_json(path).get("tokenizer") if path.is_file() else None
    found = model.fingerprint()
    if known not in (None, found):
        raise ValueError(
            f"{run / TOKENIZER} is tokenizer {found[:12]}, the prior was trained on tokens of "
            f"{known[:12]}; put that one back"
        )
    return model


def class_names(prior: Path, num_classes: int | None) -> list[str]:
    """The names of a prior's classes; empty without classes."""
    from vqkit.storage import read_json

    if num_classes is None:
        return []
    path = prior / CLASSES
    names = read_json(path) if path.is_file() else [str(i) for i in range(num_classes)]
    if not isinstance(names, list) or len(names) != num_classes:
        raise ValueError(f"{path} does not name the {num_classes} classes of the prior; restore it")
    return names


def baselines(folder: Path, prior: "Prior") -> dict[str, "Prior"]:
    """The priors that a learned one must beat, on its device."""
    from vqkit.priors import Prior, UniformPrior

    device = prior.slot_sizes.device
    uniform = UniformPrior(prior.specs, prior.conditioning, prior.lengths).to(device)
    return {
        "uniform": uniform,
        "histogram": Prior.from_pretrained(folder / HISTOGRAM, device=device),
    }
