"""How well does each prior predict the codes of real images, with equal budgets?

Run: python benchmarks/prior_table.py fashion-mnist FOLDER_OF_IDX [--rows NAME ...]
     python benchmarks/prior_table.py cifar10 FOLDER_OF_PARQUET

The tokenizer and the tokens are made once and kept; so is each prior. Every network has about half
a million parameters and as much CPU time as the Transformer takes for --steps steps: what a
step costs is measured in turns beforehand. GPT-2 takes as many steps as the Transformer, which is
more time.
"""

import argparse
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from measuring import heading, version
from PIL import Image, ImageDraw, ImageFont
from prior_runs import (
    GPT2,
    ROWS,
    SETS,
    WORK,
    Tokens,
    bits,
    keep,
    kept,
    open_sets,
    row_of,
    step_times,
    train,
)

from vqkit.cli.runs import config_of
from vqkit.evaluation import evaluate
from vqkit.modalities.image.data import open_images
from vqkit.modalities.image.pictures import contact_sheet, save_png, to_uint8
from vqkit.priors import (
    AbsorbingDiffusionConfig,
    CountedPrior,
    HistogramConfig,
    MixtureConfig,
    MixturePrior,
    NGramConfig,
    PixelCNNConfig,
    Prior,
    TransformerConfig,
    UniformConfig,
    UniformDiffusionConfig,
)
from vqkit.quantizers import entry_vectors

CONFIGS: dict[str, Any] = {
    "uniform": UniformConfig(),
    "histogram": HistogramConfig(),
    "n-gram, order 2": NGramConfig(order=2),
    "n-gram, order 4": NGramConfig(order=4),
    "mixture, 64 Gaussians": MixtureConfig(components=64),
    "transformer": TransformerConfig(layers=5, width=96, heads=4, dropout=0.1),
    "transformer, tied": TransformerConfig(layers=5, width=96, heads=4, dropout=0.1, tied=True),
    "pixelcnn": PixelCNNConfig(layers=6, width=64, dropout=0.1),
    "pixelcnn + attention": PixelCNNConfig(
        layers=5, width=64, attention_every=2, heads=4, dropout=0.1
    ),
    "absorbing diffusion": AbsorbingDiffusionConfig(layers=5, width=96, heads=4, dropout=0.1),
    "uniform diffusion": UniformDiffusionConfig(layers=5, width=96, heads=4, dropout=0.1),
}
PEER = "GPT-2 of transformers"


def makers(tokens: Tokens) -> dict[str, Callable[[], Prior | GPT2]]:
    """What builds each prior."""
    specs = tokens.train.tokens.specs
    found: dict[str, Callable[[], Prior | GPT2]] = {
        name: partial(config.build, specs) for name, config in CONFIGS.items()
    }
    return {**found, PEER: partial(GPT2, specs, layers=5, width=96, heads=4)}


def steps_of(name: str, options: argparse.Namespace, tokens: Tokens) -> dict[str, int]:
    """How many steps each network is trained; what a step costs is measured once and kept."""
    shares: dict[str, float] = {}
    for row in kept(options.cache):
        if (row["kind"], row["set"]) == ("step times", name):
            shares |= row["shares"]
    made = makers(tokens)
    networks = [n for n in options.rows if not isinstance(made[n](), CountedPrior)]
    missing = {n: made[n] for n in networks if n not in shares}
    if missing:
        times = step_times({"transformer": made["transformer"], **missing}, tokens)
        found = {n: round(t / times["transformer"], 3) for n, t in times.items()}
        keep(options.cache, {"kind": "step times", "set": name, "shares": found})
        shares |= found
    steps = {n: round(options.steps / share) for n, share in shares.items()}
    return steps | {PEER: options.steps}


def tokenizer_row(name: str, options: argparse.Namespace, tokens: Tokens) -> dict[str, Any]:
    """How good the tokenizer is on the test split; measured once and kept."""
    for row in kept(options.cache):
        if (row["kind"], row["set"]) == ("tokenizer", name):
            return row
    home = options.work / name / "tokenizer"
    test = open_images(config_of(home).data, folder=home).evaluation
    found = evaluate(tokens.tokenizer, test, batch_size=250, num_shown=0)
    book = found.stats[0][0]
    row = {
        "kind": "tokenizer",
        "set": name,
        "mse_over_variance": found.metrics["mse_over_variance"],
        "perplexity": book.perplexity,
        "usage": book.usage,
        "num_items": len(test),
    }
    keep(options.cache, row)
    return row


def sheet(prior: Prior, tokens: Tokens, path: Path) -> None:
    """64 samples as a picture."""
    codes = prior.sample(64, seed=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    save_png(path, contact_sheet(to_uint8(tokens.tokenizer.decode(codes)), 8))


def gallery(folder: Path, names: Sequence[str], columns: int = 4) -> None:
    """The upper halves of the sheets that there are in one picture, each under its name."""
    paths = {name: folder / f"{name}.png" for name in names}
    sheets = {name: Image.open(path) for name, path in paths.items() if path.exists()}
    if not sheets:  # kept rows alone: nothing was drawn here
        return
    width, height = next(iter(sheets.values())).size
    across, down = width + 12, height // 2 + 28
    whole = Image.new("RGB", (columns * across, -(-len(sheets) // columns) * down), "white")
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(14)
    for number, (name, picture) in enumerate(sheets.items()):
        x, y = number % columns * across, number // columns * down
        draw.text((x + 2, y + 4), name, fill="black", font=font)
        upper = picture.convert("RGB").crop((0, 0, width, height // 2))
        whole.paste(upper, (x, y + 22))
    whole.save(folder / "priors.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("data", help="the folder of its files")
    parser.add_argument("--steps", type=int, default=2500, help="of the Transformer")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rows", nargs="+", default=[*CONFIGS, PEER], choices=[*CONFIGS, PEER])
    parser.add_argument("--work", type=Path, default=WORK)
    parser.add_argument("--cache", type=Path, default=ROWS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(heading("Priors of the codes of real images, nats per token on the test split"))
    tokens = open_sets(options.set, options.data, options.work)
    about = tokenizer_row(options.set, options, tokens)
    spec = tokens.train.tokens.specs[0]
    print(
        f"{options.set}: {'x'.join(map(str, spec.grid))} codes of {spec.codebook_sizes[0]}; "
        f"tokenizer: MSE / variance {about['mse_over_variance']:.4f}, perplexity "
        f"{about['perplexity']:.1f}, {about['usage']:.1%} used, over {about['num_items']} images; "
        f"{len(tokens.train)} items to learn from, {len(tokens.test)} to judge by"
    )
    print(f"transformers {version('transformers')}, seed {options.seed}")
    steps = steps_of(options.set, options, tokens)
    print(f"{'prior':<24} {'parameters':>10} {'steps':>7} {'nats/token':>11} {'bits/item':>10}")
    for name in options.rows:
        row = measured(name, options, tokens, steps.get(name, 0))
        bound = "" if row["exact"] else "  (at most: a bound)"
        total = bits(row["nats_per_token"]) * spec.num_tokens
        print(
            f"{name:<24} {row['parameters']:>10,} {row['steps']:>7} {row['nats_per_token']:>11.4f} "
            f"{total:>10.1f}{bound}",
            flush=True,
        )
    gallery(options.work / options.set / "sheets", [name for name in options.rows if name != PEER])


def measured(name: str, options: argparse.Namespace, tokens: Tokens, steps: int) -> dict[str, Any]:
    """The row of one prior: trained if it was not."""
    key = ("prior", options.set, options.steps, options.seed, name)
    for row in kept(options.cache):
        if key == tuple(row.get(k) for k in ("kind", "set", "budget", "seed", "prior")):
            return row
    torch.manual_seed(options.seed)
    prior = makers(tokens)[name]()
    if isinstance(prior, MixturePrior):
        layers = tokens.tokenizer.quantizers
        prior.embed([table for layer in layers for table in entry_vectors(layer)])
    folder = options.work / options.set / f"{name}-{options.steps}-{options.seed}".replace(" ", "")
    train(prior, tokens.train, max(1, steps), folder, options.seed, tokens.test)
    if not isinstance(prior, GPT2):
        sheet(prior, tokens, options.work / options.set / "sheets" / f"{name}.png")
    row = dict(zip(("kind", "set", "budget", "seed", "prior"), key, strict=True))
    row |= {"steps": 0 if isinstance(prior, CountedPrior) else steps, **row_of(prior, tokens)}
    keep(options.cache, row)
    return row


if __name__ == "__main__":
    main()
