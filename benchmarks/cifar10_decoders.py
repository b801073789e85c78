"""How many bits per dimension does CIFAR-10 cost with each decoder, and what do the codes save?

Run: python benchmarks/cifar10_decoders.py FOLDER_OF_PARQUET_FILES [--rows NAME ...]

Each row is a tokenizer, a Transformer prior over its codes, and their figures over the whole split
that is held out. The minutes are of process CPU time on one thread, of both trainings together.
Rows that are done are kept in a file and not run again; one that was cut goes on where it was.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from cifar10_runs import kept
from measuring import commit, heading, in_own_process
from prior_runs import train

from vqkit.cli.encode import encode_items
from vqkit.cli.runs import open_tokenizer
from vqkit.cli.token_parts import TokenPart
from vqkit.cli.train import train_tokenizer
from vqkit.config import load_config
from vqkit.evaluation import evaluate, write_report
from vqkit.modalities.image.data import open_images
from vqkit.priors import TransformerConfig
from vqkit.tokens import TokenSet

DECODERS: dict[str, tuple[str, ...]] = {
    "conv": (
        "cifar10",
        "model.objective.type=logistic_mixture",
        "model.objective.num_components=5",
        "train.steps=4000",
    ),
    "pixelcnn": ("cifar10-pixelcnn",),
    "transformer": ("cifar10-transformer",),
}
"""The preset of each decoder, and what is changed in it."""
ROWS = Path(__file__).parent / "results" / "cifar10-decoders.jsonl"
PRIOR = TransformerConfig(layers=5, width=96, heads=4, dropout=0.1)
FIGURES = (
    "bits_per_dim_prior",
    "decoder_bits_per_dim",
    "code_bits_per_dim_prior",
    "code_reliance_bits_per_dim",
    "nats_per_token_prior",
    "mse_over_variance",
    "num_items",
)


def config_of(options: argparse.Namespace, name: str) -> Any:
    """The config of a tokenizer."""
    source, *words = DECODERS[name]
    own = f"data.path={options.folder}", f"train.seed={options.seed}"
    shown = "train.progress=lines", "train.log_every=200", "train.device=cpu"
    return load_config(source, [*words, *own, *shown, *options.words])


def measured(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Trains a tokenizer and a prior, and measures them."""
    torch.set_num_threads(1)
    home, start = options.work / name, time.process_time()
    cut = home.exists()  # then the minutes are those of the rest alone
    config = config_of(options, name)
    train_tokenizer(config, home / "tokenizer")
    tokenizer_minutes = (time.process_time() - start) / 60
    images = open_images(config.data, folder=home / "tokenizer")
    model = open_tokenizer(home / "tokenizer", "cpu")
    if not (home / "tokens").is_dir():
        encode_items(model, images.train, home / "tokens")
    tokens = TokenSet.open(home / "tokens")
    torch.manual_seed(options.seed)
    prior = PRIOR.build(tokens.specs)
    part = TokenPart(tokens, range(len(tokens)))
    train(prior, part, options.prior_steps, home / "prior", options.seed)
    minutes = (time.process_time() - start) / 60
    found = evaluate(model, images.evaluation, prior=prior.eval(), batch_size=50)
    write_report(home, found, title=f"CIFAR-10, {name} decoder")
    (book,) = found.stats[0]
    return {
        **{key: found.metrics.get(key) for key in FIGURES},  # not all of every decoder
        "perplexity": book.perplexity,
        "usage": book.usage,
        "steps": config.train.steps,
        "batch_size": config.train.batch_size,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "tokenizer_minutes": tokenizer_minutes,
        "minutes": minutes,
        "cut": cut,
        "commit": commit(),
    }


def results(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What was measured of each decoder; those that are not kept are run now."""
    found = {}
    own = {name: getattr(options, name) for name in ("prior_steps", "seed", "words")}
    for name in options.rows:
        key = {"decoder": name, **own}
        row = kept(options.cache, key)
        if row is None:
            words = "--one", name, "--prior-steps", options.prior_steps, "--seed", options.seed
            try:
                said = in_own_process(
                    options.folder, *options.words, *words, "--work", options.work
                )
            except subprocess.CalledProcessError as error:  # the other rows are worth having
                print(f"{name}: failed, {error.returncode}", file=sys.stderr, flush=True)
                continue
            row = key | json.loads(said.splitlines()[-1])
            options.cache.parent.mkdir(parents=True, exist_ok=True)
            with options.cache.open("a") as file:
                file.write(json.dumps(row) + "\n")
        found[name] = row
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="with train-*.parquet and test-*.parquet")
    parser.add_argument("words", nargs="*", help="settings of the presets, key=value")
    parser.add_argument("--rows", nargs="+", default=list(DECODERS), choices=DECODERS)
    parser.add_argument("--prior-steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vqkit-decoders")
    parser.add_argument("--cache", type=Path, default=ROWS)
    parser.add_argument("--one", choices=DECODERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measured(options, options.one)))
        return
    rows = results(options)
    torch.set_num_threads(1)
    print(heading("Bits per dimension of CIFAR-10, held out, with each decoder"))
    for name, row in rows.items():
        print(
            f"{name}: {row['steps']:,} steps of {row['batch_size']}, {row['parameters']:,} "
            f"parameters, perplexity {row['perplexity']:.1f}, {row['usage']:.1%} used, over "
            f"{row['num_items']:,} images, at {row['commit']}"
        )
    print(
        f"\nThe prior of each: {PRIOR.layers} x {PRIOR.width}, {options.prior_steps:,} steps of 32."
    )
    print("Bits per dimension: all, the image given its codes, the codes; and what is lost with")
    print("another image's codes.\n")
    print("decoder         all  decoder   codes  shuffled  nats/token  CPU min")
    for name, row in rows.items():
        print(
            f"{name:<12} {row['bits_per_dim_prior']:>6.3f} {row['decoder_bits_per_dim']:>8.3f} "
            f"{row['code_bits_per_dim_prior']:>7.4f} {row['code_reliance_bits_per_dim']:>9.3f} "
            f"{row['nats_per_token_prior']:>11.3f} {row['minutes']:>8.1f}"
            + (" and those before it was cut" if row["cut"] else "")
        )


if __name__ == "__main__":
    main()
