"""Which positions of an image get a code, and what is the error at the rate that this saves?

Plain quantizers of several sizes, ``Selective`` around the largest, and training with hidden
positions, all in the same network, on the same batches. Whole test split, one seed.

Run: python benchmarks/selective_images.py FOLDER [--channels 1] [--steps 3000] [--out FOLDER]
     [--rows NAME ...]
"""

import argparse
import time
from pathlib import Path

import torch
from measuring import heading
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import Codes, Level
from vqkit.data import Examples, in_order
from vqkit.evaluation import evaluate, write_report
from vqkit.modalities.image import ImageModelConfig
from vqkit.modalities.image.data import ImageDataConfig, open_images
from vqkit.modalities.image.network import ConvConfig
from vqkit.quantizers import EMAVectorQuantizer, Hiding, Quantizer, Selective
from vqkit.training import TrainConfig, fit

DIM, SIZE, CHANGED = 64, 512, 256


def ema(size: int = SIZE) -> EMAVectorQuantizer:
    return EMAVectorQuantizer(DIM, size)


ROWS = {
    **{f"plain, K {size}": lambda size=size: ema(size) for size in (8, 16, 64, SIZE)},
    **{f"keep {keep}": lambda keep=keep: Selective(ema(), keep=keep) for keep in (0.25, 0.5, 0.75)},
    "keep 0.5, K 64": lambda: Selective(ema(64), keep=0.5),
    **{
        f"hide 0.25, blocks of {block}": lambda block=block: Selective(
            ema(), keep=1, hiding=Hiding(share=0.25, block=block)
        )
        for block in (1, 2)
    },
}


def train(quantizer: Quantizer, splits, arguments: argparse.Namespace) -> tuple[VQVAE, float]:
    network = ConvConfig(hidden=arguments.hidden, dim=DIM)
    built = VQVAE.from_config(ImageModelConfig(channels=arguments.channels, network=network))
    model = VQVAE(built.encoder, quantizer, built.decoder, built.objective)
    budget = TrainConfig(
        steps=arguments.steps, batch_size=64, seed=0, progress="none", learning_rate=1e-3
    )
    start = time.process_time()
    fit(model, splits.train, budget)
    return model.eval(), (time.process_time() - start) / 60


@torch.no_grad()
def locality(model: VQVAE, examples: Examples) -> float:
    """The share of a picture's squared change inside a code's own cell when that code changes.

    The code of one position of each of some items becomes that of another position.
    """
    (batch,) = in_order(examples, CHANGED, indices=range(CHANGED))
    codes = model.encode(batch.x, batch.mask)
    (level,) = codes.levels
    indices, before = level.indices, model.decode(codes).float()
    items, (height, width) = torch.arange(CHANGED), indices.shape[1:3]
    generator = torch.Generator().manual_seed(0)
    rows = torch.randint(height, (CHANGED,), generator=generator)
    columns = torch.randint(width, (CHANGED,), generator=generator)
    changed = indices.clone()
    changed[items, rows, columns] = indices[items, rows.flip(0), columns.flip(0)]
    changed[items, rows, columns, -1] = indices[items.flip(0), rows, columns, -1]
    other = Codes((Level(changed, level.codebook_sizes, level.structure),))
    change = (model.decode(other).float() - before).square().sum(1)
    inside = cells(change.shape[-2:], (height, width), rows, columns)
    total = change.flatten(1).sum(1)
    shares = (change * inside).flatten(1).sum(1)[total > 0] / total[total > 0]
    return shares.mean().item()


def cells(size: torch.Size, grid: tuple[int, int], rows: Tensor, columns: Tensor) -> Tensor:
    """The pixels that belong to one position of the grid, for each item. (N, H, W) bool"""
    places = [torch.arange(n) * m // n for n, m in zip(size, grid, strict=True)]
    of_row = places[0] == rows.unsqueeze(1)
    return of_row.unsqueeze(2) & (places[1] == columns.unsqueeze(1)).unsqueeze(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--channels", type=int, default=1)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--out", type=Path, help="where to write a report for each row")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=ROWS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(heading("Codes only where they pay: error against rate, and how local codes are"))
    print(
        f"{arguments.steps} steps of 64, hidden {arguments.hidden}, rate 1e-3, K {SIZE} or as said;"
    )
    print("bits: a flag for each position of selective rows, and log2 K for each code that there")
    print(
        "is; entropy: with the entropies of flags and of codes instead. kept: share of positions,"
    )
    print(
        f"least to most over images. local: the change's share in a code's cell, {CHANGED} images."
    )
    heads = f"{'MSE / var':>10} {'bits':>6} {'entropy':>8} {'kept':>6} {'of an image':>12}"
    print(f"{'':24}{heads} {'local':>6} {'CPU min':>8}")
    config = ImageDataConfig(path=arguments.folder, channels=arguments.channels)
    splits = open_images(config)
    for name in arguments.rows:
        torch.manual_seed(0)
        quantizer = ROWS[name]()
        torch.manual_seed(0)
        model, minutes = train(quantizer, splits, arguments)
        test = splits.evaluation
        found = evaluate(model, test, batch_size=250, num_entries=0)
        books, num = found.stats[0], len(test)
        entropy = sum(book.entropy_bits * book.num_vectors for book in books) / num
        kept, spread = 1.0, "all"
        if len(books) > 1:
            kept = books[1].num_vectors / books[0].num_vectors
            shares = sorted(kept_of_each(model, test))
            spread = f"{shares[0]:.2f}-{shares[-1]:.2f}"
        print(
            f"{name:24}{found.metrics['mse_over_variance']:10.4f} "
            f"{found.metrics['code_bits_uniform']:6.0f} {entropy:8.0f} {kept:6.2f} {spread:>12} "
            f"{locality(model, test):6.2f} {minutes:8.1f}",
            flush=True,
        )
        if arguments.out is not None:
            write_report(arguments.out / name.replace(" ", "-"), found, title=name)


def kept_of_each(model: VQVAE, examples: Examples) -> list[float]:
    """The share of positions with a code, for each item."""
    found: list[float] = []
    for batch in in_order(examples, 250):
        flags = model.encode(batch.x, batch.mask).levels[0].indices[..., 0]
        found += flags.float().flatten(1).mean(1).tolist()
    return found


if __name__ == "__main__":
    main()
