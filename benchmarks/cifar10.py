"""How good is the preset cifar10 over the test split, and how many of its codes are in use?

Run: python benchmarks/cifar10.py FOLDER_OF_PARQUET_FILES [--seeds 0 1 2] [key=value ...]
"""

import argparse
import statistics
import sys
import tempfile
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path
from platform import machine

import torch

from vqkit.autoencoder import VQVAE
from vqkit.cli.train import train_tokenizer
from vqkit.config import load_config
from vqkit.evaluation import evaluate
from vqkit.modalities.image.data import open_images


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", help="with train-*.parquet and test-*.parquet")
    parser.add_argument("words", nargs="*", help="settings of the preset, key=value")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--runs", type=Path, default=Path(tempfile.gettempdir()) / "vqkit-cifar10")
    options = parser.parse_args()
    threads = torch.get_num_threads()
    cpu = f"{machine()} {torch.backends.cpu.get_cpu_capability()}, {threads} threads"
    print(f"{date.today()}, {cpu}, torch {version('torch')}, vqkit {version('vqkit')}")
    print(" ".join(["python", sys.argv[0], "FOLDER", *sys.argv[2:]]))
    rows = []
    for seed in options.seeds:
        words = [f"data.path={options.folder}", f"train.seed={seed}", *options.words]
        config = load_config("cifar10", [*words, "train.progress=lines", "train.log_every=1000"])
        run = options.runs / f"seed-{seed}"
        start = time.process_time()
        train_tokenizer(config, run)
        minutes = (time.process_time() - start) / 60
        test = open_images(config.data, folder=run).evaluation
        found = evaluate(VQVAE.from_pretrained(run), test, batch_size=250, num_entries=0)
        metrics, stats = found.metrics, found.stats[0][0]
        error = metrics["mse_over_variance"]
        rows.append((error, stats.perplexity, stats.usage))
        print(
            f"seed {seed}: MSE / variance {error:.4f}, perplexity {stats.perplexity:.1f}, "
            f"usage {stats.usage:.1%} over {len(test)} test images, {minutes:.1f} CPU minutes",
            flush=True,
        )
    error, perplexity, usage = (statistics.mean(column) for column in zip(*rows, strict=True))
    print(f"mean: MSE / variance {error:.4f}, perplexity {perplexity:.1f}, usage {usage:.1%}")


if __name__ == "__main__":
    main()
