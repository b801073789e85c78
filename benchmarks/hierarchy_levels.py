"""What do further levels of codes buy, at equal parameters and an equal budget of training?

Images of one folder; one network for each number of levels, as wide as gives the same number of
parameters, and a prior of the codes of each: p(coarsest) p(next | coarsest) ..., a PixelCNN for
each level, again as wide as gives the same number. All networks begin from weights that keep the
variance of features. Figures are over the whole split that is held out.

Run: python benchmarks/hierarchy_levels.py DATA --size 64 [--levels 1 2 3] [--steps 2000]
Rows that are done are kept in a file and not run again; one that was cut goes on where it was.
Reports with all pictures lie in --out, a folder for each row.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from cifar10_runs import kept
from measuring import commit, heading, in_own_process
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.codes import LevelSpec
from vqkit.data import Examples, Splits, TensorExamples, in_order
from vqkit.evaluation import Samples, evaluate, write_report
from vqkit.modalities.image import ConvConfig, ImageModelConfig
from vqkit.modalities.image.data import ImageDataConfig, ImageExamples, open_images
from vqkit.modalities.image.first_weights import keep_variance
from vqkit.priors import HierarchicalConfig, PixelCNNConfig, Prior
from vqkit.quantizers import EMAConfig
from vqkit.training import TrainConfig, fit

WITHIN, WIDTHS, NUM_SAMPLES = 0.02, range(8, 513), 32
ROWS = Path(__file__).parent / "results" / "hierarchy-levels.jsonl"
OWN = {"data", "levels", "out", "cache", "one", "threads"}
"""Words that are not part of what identifies a measurement; the levels are of each row."""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("data", help="a folder that vqkit reads as images")
    made.add_argument("--levels", type=int, nargs="+", default=[1, 2, 3])
    made.add_argument("--size", type=int, default=64, help="of the images")
    made.add_argument("--downsampling", type=int, default=4, help="of the finest level")
    made.add_argument("--codebook-size", type=int, default=512)
    made.add_argument("--parameters", type=int, default=500_000)
    made.add_argument("--steps", type=int, default=2_000)
    made.add_argument("--batch-size", type=int, default=16)
    made.add_argument("--rate", type=float, default=2e-3)
    made.add_argument("--prior-parameters", type=int, default=600_000)
    made.add_argument("--prior-layers", type=int, default=5)
    made.add_argument("--prior-steps", type=int, default=1_000)
    made.add_argument("--prior-batch-size", type=int, default=16)
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--threads", type=int, default=1)
    made.add_argument("--out", type=Path, default=Path(tempfile.gettempdir()) / "vqkit-levels")
    made.add_argument("--cache", type=Path, default=ROWS, help="where what was measured is kept")
    made.add_argument("--one", type=int, help=argparse.SUPPRESS)
    return made


def config_of(options: argparse.Namespace, levels: int, hidden: int) -> ImageModelConfig:
    network = ConvConfig(
        levels=levels, downsampling=options.downsampling, hidden=hidden, activation="silu"
    )
    quantizer = EMAConfig(
        codebook_size=options.codebook_size, decay=0.995, decay_warmup=50, dead_after=16
    )
    return ImageModelConfig(network=network, quantizer=quantizer)


def num_parameters(model: torch.nn.Module) -> int:
    """Of networks and codebooks alike."""
    return sum(parameter.numel() for parameter in model.parameters())


def width_for(wanted: int, size_of: Callable[[int], int]) -> int:
    """The width whose number of parameters is nearest to the one asked for.

    Raises:
        ValueError: If that is further away than ``WITHIN``.
    """
    low, high = WIDTHS[0], WIDTHS[-1]
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if size_of(middle) < wanted else (low, middle)
    width = min((low, high), key=lambda width: abs(size_of(width) - wanted))
    off = abs(size_of(width) - wanted) / wanted
    if off > WITHIN:
        raise ValueError(f"{size_of(width)} parameters are {off:.1%} off; give more")
    return width


def equally_large(options: argparse.Namespace, levels: int) -> ImageModelConfig:
    """The tokenizer of so many levels and of as many parameters as asked for."""

    def size_of(hidden: int) -> int:
        with torch.device("meta"):
            config = config_of(options, levels, hidden)
            objective = config.objective.build().num_outputs(config.channels)
            network = config.network
            parts = network.encoder(3), *network.top_down(), network.decoder(objective)
            tables = levels * options.codebook_size * network.dim
            return sum(map(num_parameters, parts)) + tables

    return config_of(options, levels, width_for(options.parameters, size_of))


def prior_of(options: argparse.Namespace, specs: Sequence[LevelSpec]) -> HierarchicalConfig:
    """The prior of codes of these levels and of as many parameters as asked for."""

    def config(width: int) -> HierarchicalConfig:
        member = PixelCNNConfig(layers=options.prior_layers, width=width, dropout=0.1)
        return HierarchicalConfig(members=(member,) * len(specs), width=width)

    def size_of(width: int) -> int:
        with torch.device("meta"):
            return num_parameters(config(width).build(specs))

    return config(width_for(options.prior_parameters, size_of))


def opened(options: argparse.Namespace) -> Splits[ImageExamples]:
    folder = options.out / "index"
    folder.mkdir(parents=True, exist_ok=True)
    data = ImageDataConfig(path=options.data, size=options.size, resize="crop", flip=True)
    return open_images(data, folder=folder)


def tokenizer(options: argparse.Namespace, levels: int, images: Splits[ImageExamples]) -> VQVAE:
    """The trained network, with the same first weights' spread whatever its levels."""
    torch.manual_seed(options.seed)
    model = VQVAE.from_config(equally_large(options, levels))
    for part in (model.encoder, *model.top_down, model.decoder):
        keep_variance(part)
    budget = TrainConfig(
        steps=options.steps,
        batch_size=options.batch_size,
        learning_rate=options.rate,
        betas=(0.9, 0.99),
        clip_norm=1.0,
        seed=options.seed,
        progress="none",
    )
    fit(model, images.train, budget, folder=options.out / str(levels) / "run")
    return model.eval()


def codes_of(model: VQVAE, examples: Examples) -> Tensor:
    """The codes of all items in a row each, levels coarsest first. (N, L) int32"""
    parts = [model.encode(batch.x).flat().int() for batch in in_order(examples, 64)]
    return torch.cat(parts)


def trained_prior(
    options: argparse.Namespace, levels: int, model: VQVAE, images: Splits[ImageExamples]
) -> Prior:
    """p(coarsest) p(next | coarsest) ..., of the same size and budget for each row."""
    specs = model.encode(images.train.example(0).x.unsqueeze(0)).specs
    torch.manual_seed(options.seed)
    prior = prior_of(options, specs).build(specs)
    budget = TrainConfig(
        steps=options.prior_steps,
        batch_size=options.prior_batch_size,
        learning_rate=1e-3,
        clip_norm=1.0,
        seed=options.seed,
        progress="none",
    )
    codes = TensorExamples(codes_of(model, images.train))
    fit(prior, codes, budget, folder=options.out / str(levels) / "prior")
    return prior.eval()


def measured(options: argparse.Namespace, levels: int) -> dict:
    """Trains and measures one number of levels, and writes its report."""
    torch.set_num_threads(options.threads)
    start, images = time.process_time(), opened(options)
    model = tokenizer(options, levels, images)
    minutes = (time.process_time() - start) / 60
    prior = trained_prior(options, levels, model, images)
    found = evaluate(model, images.evaluation, prior=prior, split="held out")
    images_of = model.decode(prior.sample(NUM_SAMPLES, seed=options.seed))
    samples = Samples("a PixelCNN for each level", images_of)
    write_report(options.out / str(levels), found, title=f"{levels} levels", samples=[samples])
    wanted = "mse_over_variance", "psnr_db", "ssim", "decoder_bits_per_dim"
    codes = "code_bits_per_dim_prior", "bits_per_dim_prior", "nats_per_token_prior"
    return {
        **{key: found.metrics[key] for key in (*wanted, *codes, "code_bits_uniform")},
        "num_items": found.metrics["num_items"],
        "per_level": found.metrics["levels"],
        "hidden": model.config.network.hidden if model.config else None,
        "num_parameters": num_parameters(model),
        "prior_parameters": num_parameters(prior),
        "minutes": minutes,
        "commit": commit(),
    }


def results(options: argparse.Namespace) -> dict[int, dict]:
    """What was measured of each number of levels; those that are not kept are run now."""
    own = {name: value for name, value in vars(options).items() if name not in OWN}
    found = {}
    for levels in options.levels:
        key = {"data": Path(options.data).name, "levels": levels, **own}
        row = kept(options.cache, key)
        if row is None:
            pairs = ((f"--{name.replace('_', '-')}", value) for name, value in own.items())
            words = [word for pair in pairs for word in pair]
            places = "--out", options.out, "--threads", options.threads
            try:
                said = in_own_process(options.data, "--one", levels, *words, *places)
            except subprocess.CalledProcessError as error:  # the other rows are worth having
                print(f"{levels} levels: failed, {error.returncode}", file=sys.stderr, flush=True)
                continue
            row = key | json.loads(said.splitlines()[-1])
            options.cache.parent.mkdir(parents=True, exist_ok=True)
            with options.cache.open("a") as file:
                file.write(json.dumps(row) + "\n")
        found[levels] = row
    return found


def table(rows: dict[int, dict]) -> list[str]:
    """A line for each number of levels."""
    heads = "levels  hidden  parameters  MSE / var    PSNR    SSIM  code bits  decoder   codes"
    lines = [heads + "     sum  nats/token  CPU min"]
    for levels, row in rows.items():
        lines.append(
            f"{levels:>6} {row['hidden']:>7} {row['num_parameters']:>11,} "
            f"{row['mse_over_variance']:>10.4f} {row['psnr_db']:>7.2f} {row['ssim']:>7.4f} "
            f"{row['code_bits_uniform']:>10.0f} {row['decoder_bits_per_dim']:>8.3f} "
            f"{row['code_bits_per_dim_prior']:>7.3f} {row['bits_per_dim_prior']:>7.3f} "
            f"{row['nats_per_token_prior']:>11.3f} {row['minutes']:>8.1f}"
        )
    return lines


def level_lines(rows: dict[int, dict]) -> list[str]:
    """A line for each level of each row: its use, and what is lost without it."""
    lines = ["of  level  grid        usage  perplexity  error rises  bits/dim rise"]
    for levels, row in rows.items():
        for number, level in enumerate(row["per_level"], start=1):
            (book,), lost = level["codebooks"], level.get("exchanged")
            grid = " x ".join(map(str, level["grid"]))
            rises = f"{'-':>11}  {'-':>13}"
            if lost is not None:
                rises = f"{lost['mse_rise']:>11.1%}  {lost['bits_per_dim_rise']:>13.3f}"
            lines.append(
                f"{levels:>2} {number:>6}  {grid:<10} {book['usage']:>6.1%} "
                f"{book['perplexity']:>11.1f}  {rises}"
            )
    return lines


def main() -> None:
    options = parser().parse_args()
    if options.one is not None:
        print(json.dumps(measured(options, options.one)))
        return
    for levels in options.levels:
        equally_large(options, levels)  # says at once if widths cannot agree
    rows = results(options)
    torch.set_num_threads(options.threads)
    print(heading("Levels of codes at equal parameters"))
    print(
        f"{Path(options.data).name}, {options.size} x {options.size}, K {options.codebook_size}; "
        f"{options.steps:,} steps of {options.batch_size}, seed {options.seed}. The finest grid is"
    )
    print(f"1 / {options.downsampling} of the image, each coarser one half of the next.")
    commits = ", ".join(sorted({row["commit"] for row in rows.values()}))
    num = next((row["num_items"] for row in rows.values()), 0)
    print(f"Over {num} held-out images; trained at {commits}. Bits per dimension: decoder, codes")
    print(
        f"under PixelCNNs of {options.prior_parameters:,} parameters in all, "
        f"{options.prior_steps:,} steps of {options.prior_batch_size}, and their sum.\n"
    )
    print("\n".join(table(rows)))
    print("\nError and decoder's bits per dimension with that level's codes of another image:\n")
    print("\n".join(level_lines(rows)))
    print(f"\nReports and pictures: {options.out.name}/LEVELS/report.html")


if __name__ == "__main__":
    main()
