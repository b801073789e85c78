"""How many bytes of a text come back from its codes, at how many bits per byte, and lossless?

Run: python benchmarks/text_rates.py FOLDER [--rows NAME ...]

FOLDER holds a folder of train.txt and test.txt for each text: tiny_shakespeare, multi30k_en. Each
row is a tokenizer, a Transformer prior over its codes, and their figures over the whole of
test.txt, beside what gzip and bz2 make of the same file. The minutes are of process CPU time on one
thread, of both trainings together. Rows that are done are kept in a file and not run again; one
that was cut goes on where it was.
"""

import argparse
import bz2
import gzip
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from cifar10_runs import kept
from measuring import commit, heading, in_own_process

from vqkit.cli.encode import encode_items
from vqkit.cli.runs import open_tokenizer
from vqkit.cli.token_parts import TokenPart
from vqkit.cli.train import train_tokenizer
from vqkit.config import load_config
from vqkit.data import Example, StatelessSampler
from vqkit.evaluation import evaluate, write_report
from vqkit.modalities.text import TextDataConfig
from vqkit.priors import Lengths, TransformerConfig
from vqkit.tokens import TokenSet
from vqkit.training import TrainConfig, fit

TEXTS = {"tiny_shakespeare": "tiny-shakespeare", "multi30k_en": "text"}
"""The preset of each text: pieces of 256 bytes, and lines."""
BATCHES = {"tiny_shakespeare": 16, "multi30k_en": 64}
"""Items of a step of the priors: some 2,000 codes."""
AUTOREGRESSIVE = (
    "data.patch=8",
    "model.network.patch=8",
    "model.decoder.type=autoregressive",
    "model.decoder.layers=3",
)
CODERS: dict[str, tuple[str, ...]] = {
    "patch 2, 1024": (),
    "patch 2, 2048": ("model.quantizer.codebook_size=2048",),
    "patch 2, 512": ("model.quantizer.codebook_size=512",),
    "patch 4, 2 x 1024": (
        "data.patch=4",
        "model.network.patch=4",
        "model.quantizer.type=residual",
        "model.quantizer.stages=2",
        "model.quantizer.quantizer.codebook_size=1024",
    ),
    "patch 8, autoregressive": AUTOREGRESSIVE,
}
"""What is changed in the preset for each row."""
NAMES = [f"{text}: {coder}" for text in TEXTS for coder in CODERS]
ROWS = Path(__file__).parent / "results" / "text-rates.jsonl"
PRIOR = TransformerConfig(layers=4, width=192, heads=6, dropout=0.1, tied=True)
FIGURES = (
    "byte_accuracy",
    "exact_match",
    "codes_per_dim",
    "code_bits_per_dim_uniform",
    "code_bits_per_dim_prior",
    "decoder_bits_per_dim",
    "bits_per_dim_prior",
    "code_reliance_bits_per_dim",
    "nats_per_token_prior",
    "num_items",
)


class Joined:
    """Several sets of tokens one behind the other."""

    def __init__(self, parts: Sequence[TokenPart]) -> None:
        self.places = [(part, index) for part in parts for index in range(len(part))]
        self.lengths: list[int] | None = None
        if any(part.lengths for part in parts):
            whole = [[part.tokens.specs[0].num_tokens] * len(part) for part in parts]
            own = [part.lengths or same for part, same in zip(parts, whole, strict=True)]
            self.lengths = [length for each in own for length in each]

    def __len__(self) -> int:
        return len(self.places)

    def example(self, index: int, seed: int | None = None) -> Example:
        part, place = self.places[index]
        return part.example(place, seed)


def config_of(options: argparse.Namespace, name: str) -> Any:
    """The config of a tokenizer."""
    text, coder = name.split(": ")
    own = f"data.path={options.folder / text}", f"train.seed={options.seed}"
    shown = "train.progress=lines", "train.log_every=200", "train.device=cpu"
    return load_config(TEXTS[text], [*CODERS[coder], *own, *shown, *options.words])


def tokens_of(options: argparse.Namespace, data: TextDataConfig, home: Path) -> Joined:
    """The codes of the training text; of pieces, from each beginning that a patch can have."""
    model, parts = open_tokenizer(home / "tokenizer", "cpu"), []
    text = (Path(data.path) / "train.txt").read_bytes()
    for first in range(1 if data.chunk is None else data.patch):
        path = home / f"from-{first}.txt"
        path.write_bytes(text[first:])
        own = TextDataConfig(path=str(path), chunk=data.chunk, patch=data.patch)
        tokens = home / f"tokens-{first}"
        parts.append(encode_items(model, own.open_all()[0], tokens, batch_size=64))
    longest = max(parts, key=lambda part: part.specs[0].grid).specs
    if any(part.specs != longest for part in parts):
        raise ValueError("the parts have codes of unlike longest grids")
    return Joined([TokenPart(part, range(len(part))) for part in parts])


def measured(options: argparse.Namespace, name: str) -> dict[str, Any]:
    """Trains a tokenizer and a prior, and measures them."""
    torch.set_num_threads(1)
    home, start = options.work / name.replace(": ", "-").replace(" ", ""), time.process_time()
    cut = home.exists()  # then the minutes are those of the rest alone
    config = config_of(options, name)
    train_tokenizer(config, home / "tokenizer")
    tokenizer_minutes = (time.process_time() - start) / 60
    items = config.data.open(folder=home / "tokenizer")
    model = open_tokenizer(home / "tokenizer", "cpu")
    tokens = tokens_of(options, config.data, home)
    specs = TokenSet.open(home / "tokens-0").specs
    torch.manual_seed(options.seed)
    lengths = None if tokens.lengths is None else Lengths.of(tokens, specs)
    prior = PRIOR.build(specs, None, lengths)
    fit(prior, tokens, prior_training(options, name), folder=home / "prior")
    minutes = (time.process_time() - start) / 60
    found = evaluate(model, items.evaluation, prior=prior.eval(), batch_size=64)
    write_report(home, found, title=name)
    return {
        **{key: found.metrics.get(key) for key in FIGURES},
        "perplexity": [book.perplexity for book in found.stats[0]],
        "steps": config.train.steps,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "prior_parameters": sum(parameter.numel() for parameter in prior.parameters()),
        "tokenizer_minutes": tokenizer_minutes,
        "minutes": minutes,
        "cut": cut,
        "commit": commit(),
    }


def prior_training(options: argparse.Namespace, name: str) -> TrainConfig:
    """How a prior is trained."""
    return TrainConfig(
        steps=options.prior_steps,
        batch_size=BATCHES[name.split(": ")[0]],
        learning_rate=2e-3,
        betas=(0.9, 0.99),
        weight_decay=0.01,
        clip_norm=1.0,
        seed=options.seed,
        device="cpu",
        progress="lines",
        log_every=200,
        checkpoint_every=500,
    )


def results(options: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """What was measured of each row; those that are not kept are run now."""
    found = {}
    own = {name: getattr(options, name) for name in ("prior_steps", "seed", "words")}
    for name in options.rows:
        key = {"row": name, **own}
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


def padding(path: Path, by_length: bool, batch_size: int = 64, patch: int = 2) -> float:
    """The share of training batches of lines that is padding."""
    sizes = [len(line) for line in path.read_bytes().splitlines(keepends=True)]
    lengths = [-(-size // patch) * patch for size in sizes]
    own = lengths if by_length else None
    sampler = StatelessSampler(len(lengths), batch_size, seed=0, lengths=own)
    frames = real = 0
    for step in range(len(lengths) // batch_size):
        batch = [lengths[draw.index] for draw in sampler.micro_batch(step)]
        frames, real = frames + batch_size * max(batch), real + sum(batch)
    return 1 - real / frames


def show(options: argparse.Namespace, rows: dict[str, dict[str, Any]]) -> None:
    """Prints the table."""
    for name, row in rows.items():
        print(
            f"{name}: {row['steps']:,} steps, {row['parameters']:,} parameters; prior of "
            f"{row['prior_parameters']:,}, {options.prior_steps:,} steps; at {row['commit']}"
        )
    print("\nBits per byte: of the codes, all equally likely and under the prior; what the decoder")
    print("still needs; both together, which is lossless.\n")
    print("                                        right   uniform  prior  decoder  total  CPU min")
    for text in TEXTS:
        data = (options.folder / text / "test.txt").read_bytes()
        for name, packed in (("gzip", gzip.compress(data, 9)), ("bz2", bz2.compress(data, 9))):
            print(f"{f'{text}: {name}':<38} 1       {'':>24}  {8 * len(packed) / len(data):>5.3f}")
        for name in (name for name in rows if name.startswith(text)):
            row = rows[name]
            print(
                f"{name:<38} {row['byte_accuracy']:.4f} {row['code_bits_per_dim_uniform']:>8.3f} "
                f"{row['code_bits_per_dim_prior']:>6.3f} {row['decoder_bits_per_dim']:>8.3f} "
                f"{row['bits_per_dim_prior']:>6.3f} {row['minutes']:>8.1f}"
                + (" and those before it was cut" if row["cut"] else "")
            )
    print("\nPadding of training batches of 64 lines, shuffled and by length:")
    for text in TEXTS:
        shares = (padding(options.folder / text / "train.txt", own) for own in (False, True))
        print(f"{text:<18}" + "".join(f" {share:>7.1%}" for share in shares))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("words", nargs="*", help="settings of the presets, key=value")
    parser.add_argument("--rows", nargs="+", default=NAMES, choices=NAMES)
    parser.add_argument("--prior-steps", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "vqkit-texts")
    parser.add_argument("--cache", type=Path, default=ROWS)
    parser.add_argument("--one", choices=NAMES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(measured(options, options.one)))
        return
    rows = results(options)
    torch.set_num_threads(1)
    print(heading("Bytes right and bits per byte of held-out text"))
    show(options, rows)


if __name__ == "__main__":
    main()
