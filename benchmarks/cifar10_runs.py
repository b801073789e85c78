"""The preset cifar10 with any quantizer: trained, measured over whole splits, and kept.

What is done is a line of a file, so that a run that was cut goes on where it was.
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from measuring import commit, in_own_process, peak_mb
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.config import RunConfig, load_config
from vqkit.data import Splits, in_order
from vqkit.evaluation import CodebookStats, CodeCounter, evaluate
from vqkit.modalities.image import ImageModelConfig
from vqkit.modalities.image.data import ImageExamples, open_images
from vqkit.quantizers import Quantizer, QuantizerConfig
from vqkit.training import fit

BATCH = 250
FOLDER = Path(tempfile.gettempdir()) / "vqkit-cifar10-runs"
ROWS = Path(__file__).parent / "results" / "cifar10-runs.jsonl"


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        quantizer: What is between encoder and decoder.
        training_split: Whether use is counted over the training split too.
    """

    quantizer: QuantizerConfig
    training_split: bool = False


def parser(description: str | None, rows: Sequence[str], steps: int = 3000):
    """The words that all scripts of such runs take."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("folder", help="with train-*.parquet and test-*.parquet")
    made.add_argument("--steps", type=int, default=steps)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--rows", nargs="+", default=list(rows), choices=rows, metavar="ROW")
    made.add_argument("--cache", type=Path, default=ROWS, help="where what was measured is kept")
    made.add_argument("--one", choices=rows, help=argparse.SUPPRESS)
    return made


def preset(options: argparse.Namespace) -> RunConfig:
    """The preset with the data, length and seed that were asked for."""
    words = [f"data.path={options.folder}", f"train.steps={options.steps}"]
    quiet = f"train.seed={options.seed}", "train.progress=none"
    return load_config("cifar10", [*words, *quiet])


def network(config: ImageModelConfig, quantizer: Quantizer, seed: int) -> VQVAE:
    """The preset's network around a quantizer: its first weights depend on the seed alone."""
    torch.manual_seed(seed)
    objective = config.objective.build()
    encoder = config.network.encoder(config.channels)
    decoder = config.network.decoder(objective.num_outputs(config.channels))
    return VQVAE(encoder, quantizer, decoder, objective)


def results(options: argparse.Namespace, runs: dict[str, Run]) -> dict[str, dict]:
    """What was measured of each run that was asked for; those not in the cache are run now."""
    if options.one:
        print(json.dumps(measured(options, runs[options.one])))
        sys.exit()
    options.cache.parent.mkdir(parents=True, exist_ok=True)
    found = {}
    for name in options.rows:
        key = {"run": repr(runs[name]), "steps": options.steps, "seed": options.seed}
        row = kept(options.cache, key)
        if row is None:
            words = "--one", name, "--steps", options.steps, "--seed", options.seed
            try:
                row = key | json.loads(in_own_process(options.folder, *words).splitlines()[-1])
            except subprocess.CalledProcessError as error:  # the other rows are worth having
                print(f"{name}: failed with {error.returncode}", file=sys.stderr, flush=True)
                continue
            with options.cache.open("a") as file:
                file.write(json.dumps(row) + "\n")
        print(f"{name}: {row}", file=sys.stderr, flush=True)
        found[name] = row
    return found


def kept(cache: Path, key: dict) -> dict | None:
    """The last line of the cache that was measured with this key."""
    lines = map(json.loads, cache.read_text().splitlines()) if cache.exists() else ()
    same = [row for row in lines if row | key == row]
    return same[-1] if same else None


def measured(options: argparse.Namespace, run: Run) -> dict:
    """Trains and measures; every figure is over the whole of the split that it names."""
    torch.set_num_threads(1)
    config, images = preset(options), opened(options)
    torch.manual_seed(options.seed)
    quantizer = run.quantizer.build(config.model.network.dim)
    model = network(config.model, quantizer, options.seed)
    start = time.process_time()
    fit(model, images.train, config.train)
    minutes = (time.process_time() - start) / 60
    peak = peak_mb()
    found = evaluate(model, images.evaluation, batch_size=BATCH, num_shown=0, num_entries=0)
    return {
        "mse_over_variance": found.metrics["mse_over_variance"],
        "test": use(found.stats, len(images.evaluation)),
        "train": use(counted(model, images.train), len(images.train))
        if run.training_split
        else None,
        "norm": norm(model, images.evaluation),
        "minutes": minutes,
        "peak_mb": peak,
        "commit": commit(),
    }


def opened(options: argparse.Namespace) -> Splits[ImageExamples]:
    FOLDER.mkdir(parents=True, exist_ok=True)
    return open_images(preset(options).data, folder=FOLDER)


def use(stats: Sequence[Sequence[CodebookStats]], items: int) -> dict:
    """How a split uses the codebooks: means over them, and bits of an item."""
    books = [book for level in stats for book in level]
    return {
        "vectors": books[0].num_vectors,
        "usage": mean([book.usage for book in books]),
        "evenness": mean([book.perplexity / book.size for book in books]),
        "bits": sum(book.num_vectors * math.log2(book.size) for book in books) / items,
        "entropy": sum(book.num_vectors * book.entropy_bits for book in books) / items,
    }


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def counted(model: VQVAE, examples: ImageExamples) -> tuple[tuple[CodebookStats, ...], ...]:
    """Which entries the codes of a split use."""
    counter = CodeCounter([quantizer.codebook_sizes for quantizer in model.quantizers])
    for batch in in_order(examples, BATCH):
        counter.add(model.encode(batch.x))
    return counter.stats()


@torch.no_grad()
def norm(model: VQVAE, examples: ImageExamples) -> float:
    """The mean length of what is quantized."""
    lengths: list[Tensor] = []
    for batch in in_order(examples, BATCH):
        lengths.append(model(batch.x).z_e[0].norm(dim=-1).flatten())
    return torch.cat(lengths).mean().item()
