"""What do few steps of diffusion cost in Frechet distance, beside the Transformer and the PixelCNN?

Run: python benchmarks/diffusion_frechet.py fashion-mnist FOLDER_OF_IDX --work FOLDER

The priors are those that prior_table.py trained there. Features are those of a classifier that is
trained on the labels of the training split; real images are the held-out ones.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from measuring import heading
from prior_runs import SETS, WORK, open_sets

from vqkit.cli.runs import config_of
from vqkit.drawing import Drawing
from vqkit.evaluation import ClassifierFeatures, Judges, measure_generation
from vqkit.modalities.image.data import open_images
from vqkit.priors import AbsorbingDiffusionConfig, Prior
from vqkit.training.classifier import trained_classifier

NAMES = {
    "histogram": "histogram",
    "transformer": "learned",
    "pixelcnn": "pixelcnn",
    "uniformdiffusion": "uniform diffusion",
}
"""Folders of priors, and what they are called here."""


def drawn_in(
    home: Path, budget: str, steps: Sequence[int], masses: Sequence[float]
) -> tuple[dict[str, Prior], dict[str, Drawing]]:
    """The trained priors, and how they are drawn from if not plainly.

    The absorbing diffusion comes once for each number of steps, order and top_p.
    """
    found = {name: Prior.from_pretrained(home / f"{n}-{budget}") for n, name in NAMES.items()}
    drawings = {}
    diffusion = Prior.from_pretrained(home / f"absorbingdiffusion-{budget}")
    assert isinstance(diffusion.config, AbsorbingDiffusionConfig)
    confident = replace(diffusion.config, order="confidence").build(
        diffusion.specs, diffusion.conditioning
    )
    confident.load_state_dict(diffusion.state_dict())
    for num in steps:
        for top_p in (None, *masses):
            name = f"absorbing, {num} steps, random order"
            name += "" if top_p is None else f", top_p {top_p:g}"
            found[name], drawings[name] = diffusion, Drawing(steps=num, top_p=top_p)
        name = f"absorbing, {num} steps, by confidence"
        found[name], drawings[name] = confident.eval(), Drawing(steps=num)
    return found, drawings


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("data", help="the folder of its files")
    parser.add_argument("--budget", default="2500-0", help="of the priors: steps and seed")
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 16, 49])
    parser.add_argument("--top-p", type=float, nargs="+", default=[0.9, 0.8], dest="masses")
    parser.add_argument("--num", type=int, default=2500, help="of samples of each")
    parser.add_argument("--work", type=Path, default=WORK)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(heading("Frechet distance of samples of priors of the same size and budget"))
    tokens, home = open_sets(options.set, options.data, options.work), options.work / options.set
    images = open_images(config_of(home / "tokenizer").data, folder=home / "tokenizer")
    classifier = trained_classifier(
        home / "classifier", images.train, tuple(images.train.labels), device="cpu"
    )
    priors, drawings = drawn_in(home, options.budget, options.steps, options.masses)
    found = measure_generation(
        priors,
        tokens.tokenizer,
        Judges(ClassifierFeatures(classifier), classifier),
        held_out=images.evaluation,
        training=images.train,
        num=options.num,
        drawings=drawings,
        batch_size=250,
    ).metrics
    print(f"{options.num:,} samples of each, {found['num_held_out']:,} held-out images; features")
    print(
        f"of a classifier with {found['classifier_accuracy']:.1%} on these; precision and recall "
        f"with k = {found['k']}\n"
    )
    print(f"{'':<38} {'Frechet':>8} {'precision':>9} {'recall':>7}")
    for name in [*priors, "training_images"]:
        row, shown = found[name], "transformer" if name == "learned" else name.replace("_", " ")
        print(
            f"{shown:<38} {row['frechet_distance']:>8.2f} {row['precision']:>9.3f} "
            f"{row['recall']:>7.3f}"
        )


if __name__ == "__main__":
    main()
