"""How good is the preset cifar10 over the test split, and how many of its codes are in use?

Run: python benchmarks/cifar10.py FOLDER_OF_PARQUET_FILES [--seeds 0 1 2] [key=value ...]
Runs that are in the folder already are only evaluated.
"""

import argparse
import statistics
import tempfile
from pathlib import Path

from measuring import heading

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
    print(heading("CIFAR-10, 10,000 steps of 32, over the whole test split"))
    rows = []
    for seed in options.seeds:
        words = [f"data.path={options.folder}", f"train.seed={seed}", *options.words]
        config = load_config("cifar10", [*words, "train.progress=lines", "train.log_every=1000"])
        run = options.runs / f"seed-{seed}"
        train_tokenizer(config, run)
        test = open_images(config.data, folder=run).evaluation
        found = evaluate(VQVAE.from_pretrained(run), test, batch_size=250, num_entries=0)
        metrics, stats = found.metrics, found.stats[0][0]
        error = metrics["mse_over_variance"]
        rows.append((error, stats.perplexity, stats.usage))
        print(
            f"seed {seed}: MSE / variance {error:.4f}, perplexity {stats.perplexity:.1f}, "
            f"usage {stats.usage:.1%} over {len(test)} test images",
            flush=True,
        )
    error, perplexity, usage = (statistics.mean(column) for column in zip(*rows, strict=True))
    print(f"mean: MSE / variance {error:.4f}, perplexity {perplexity:.1f}, usage {usage:.1%}")


if __name__ == "__main__":
    main()
