"""Training of the small classifier that judges samples."""

import sys
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from pydantic import TypeAdapter
from torch import Tensor

from vqkit.data.batch import Batch
from vqkit.data.example import Examples
from vqkit.distributed import is_main
from vqkit.evaluation.classifier import ClassifierConfig, ImageClassifier, stride_for
from vqkit.means import Mean
from vqkit.training import finish
from vqkit.training.config import TrainConfig
from vqkit.training.run import fit
from vqkit.training.task import StepOutput, Task

SEED = 1
PASSES = 8  # over the images, within the bounds of the number of steps
LEAST_STEPS, MOST_STEPS = 100, 3000
BATCH = 128
CHECKPOINT_EVERY = 500


class ClassifierTask(Task):
    """Learns the classes of images, by cross-entropy.

    Args:
        model: The classifier; batches hold images (B, C, H, W) and labels (B,).
    """

    model: ImageClassifier
    unit = "images"

    def forward(self, batch: Batch, measure: bool = False) -> StepOutput:
        if batch.labels is None:
            raise ValueError("the images have no labels; a classifier needs one for each")
        total = F.cross_entropy(self.model(batch.x), batch.labels, reduction="sum")
        return StepOutput({name: Mean(total, count) for name, count in self.counts(batch).items()})

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        return {"nats_per_label": torch.tensor(len(batch), device=batch.x.device)}

    def describe(self) -> Any:
        return TypeAdapter(ClassifierConfig).dump_python(self.model.config, mode="json")

    def save(self, folder: Path) -> None:
        self.model.save_pretrained(folder)


def trained_classifier(
    folder: Path, images: Examples | None, labels: tuple[str, ...], *, device: str = "cpu"
) -> ImageClassifier:
    """The classifier of a folder; trained there, or trained on, if it is not finished.

    It knows images and their labels alone, and starts from a seed of its own: it depends neither
    on a tokenizer nor on a prior. Every rank must call it.

    Args:
        folder: Where it is kept.
        images: To train on, with labels; None if it is not to be trained.
        labels: Names of the classes.
        device: "cpu", or where to put it.

    Raises:
        FileNotFoundError: If it is not there, and there are no images.
        ValueError: If the folder holds one of other classes, or the images have no labels.
    """
    known = kept_classes(folder)
    if known is not None:
        if known != labels:
            raise ValueError(
                f"{folder} knows the classes {', '.join(known[:5])}, the images have "
                f"{', '.join(labels[:5]) or 'none'}; remove it, and another is trained"
            )
        return ImageClassifier.from_pretrained(folder, device)
    if images is None:
        raise FileNotFoundError(f"{folder} holds no classifier, and there is nothing to train on")
    channels, height, width = images.example(0).x.shape
    config = ClassifierConfig(channels=channels, labels=labels, stride=stride_for(height, width))
    with torch.random.fork_rng():
        torch.manual_seed(SEED)
        model = config.build()
    if is_main():
        what = f"{len(labels)} classes on {len(images):,} images"
        print(f"training a classifier of {what}: {folder}", file=sys.stderr)
    fit(ClassifierTask(model), images, plan(len(images), device), folder=folder)
    return model.to(device).eval()


def kept_classes(folder: Path) -> tuple[str, ...] | None:
    """The classes that the classifier of a folder knows; None where none was finished there."""
    if finish.finished(folder) is None:
        return None
    try:
        return ImageClassifier.from_pretrained(folder).config.labels
    except ValueError as error:
        reason = str(error).split(";")[0]
        raise ValueError(f"{reason}; remove {folder}, and it is trained anew") from None


def plan(num_images: int, device: str) -> TrainConfig:
    """How a classifier is trained on so many images."""
    size = min(BATCH, num_images)
    steps = min(max(PASSES * num_images // size, LEAST_STEPS), MOST_STEPS)
    return TrainConfig(
        steps=steps,
        batch_size=size,
        seed=SEED,
        learning_rate=3e-3,
        weight_decay=0.01,
        warmup_steps=min(50, steps // 10),
        checkpoint_every=CHECKPOINT_EVERY,
        keep_checkpoints=1,
        device="cpu" if device == "cpu" else "auto",
    )
