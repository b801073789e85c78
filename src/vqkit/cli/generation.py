"""What ``vqkit evaluate`` finds of new images, and the feature space that it looks for it in."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqkit.cli.failures import message
from vqkit.cli.train_prior import HISTOGRAM
from vqkit.cli.wording import counted
from vqkit.drawing import Drawing, changed

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.data import Items
    from vqkit.evaluation import Generation, Judges
    from vqkit.modalities.base import Modality
    from vqkit.priors import Prior

LEARNED = "learned"  # the prior of the run, among those that are compared
CLASSIFIER, ENCODER, ONNX = "classifier", "encoder", ".onnx"
NUM_SAMPLES = 1000
SHOWN = {
    "frechet_distance": "Frechet distance",
    "precision": "precision",
    "recall": "recall",
    "class_accuracy": "class accuracy",
}
WHOSE = {LEARNED: "this prior", "training_images": "training images"}


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose new images are judged.

    Attributes:
        run: The run folder of the prior.
        prior: On its device.
        tokenizer: On the same device.
        held_out: Real images that the prior has not seen.
        training: Those that it was trained on; None where they are not at hand.
    """

    run: Path
    prior: "Prior"
    tokenizer: "VQVAE"
    held_out: "Items"
    training: "Items | None"


def check_features(features: str | None) -> None:
    """Raises ValueError or FileNotFoundError if the word names no feature space."""
    if features is None or features in (CLASSIFIER, ENCODER):
        return
    if not features.endswith(ONNX):
        raise ValueError(
            f"--features {features}: there is no such feature space; give {CLASSIFIER}, {ENCODER} "
            f"or a file that ends in {ONNX}"
        )
    if not Path(features).is_file():
        raise FileNotFoundError(f"--features {features}: there is no such file")


def without_judges(samples: int | None, kind: "Modality") -> int:
    """How many new items are judged where there is no feature space for them: none.

    Raises:
        ValueError: If some shall be.
    """
    if samples is not None:
        raise ValueError(
            f"--samples is {samples}, but new {kind.items} are shown, not judged; leave it out"
        )
    return 0


def judges_of(subject: Subject, features: str | None) -> "Judges":
    """The feature space of a word, and the classifier if there is one.

    Args:
        subject: Whose new images are judged.
        features: What ``check_features`` let pass. None: the classifier where there are classes
            to learn, or else the encoder.

    Raises:
        ValueError: If there are no classes, and a classifier was asked for.
    """
    from vqkit.evaluation import ClassifierFeatures, EncoderFeatures, Judges, OnnxFeatures
    from vqkit.training.classifier import kept_classes, trained_classifier

    labels = tuple(subject.held_out.labels)
    folder = subject.run / CLASSIFIER
    kept = kept_classes(folder) == labels
    trainable = subject.training is not None and tuple(subject.training.labels) == labels
    pictured = subject.tokenizer.objective.modality.name == "image"
    possible = pictured and len(labels) > 1 and (kept or trainable)
    if features == CLASSIFIER and not possible:
        why = "there are no training images of these classes"
        why = why if len(labels) > 1 else "there are not two classes to tell apart"
        why = why if pictured else "it is one of images"
        raise ValueError(f"--features {CLASSIFIER}: {why}; take {ENCODER}, or a file {ONNX}")
    classifier = None
    if possible and (kept or features in (None, CLASSIFIER)):
        device = str(subject.prior.slot_sizes.device)
        classifier = trained_classifier(folder, subject.training, labels, device=device)
    if features is not None and features.endswith(ONNX):
        return Judges(OnnxFeatures(features, subject.held_out.example(0).x.shape), classifier)
    if features == ENCODER or classifier is None:
        return Judges(EncoderFeatures(subject.tokenizer), classifier)
    return Judges(ClassifierFeatures(classifier), classifier)


def generation_of(
    subject: Subject,
    features: str | None,
    num: int,
    *,
    how: Drawing,
    batch_size: int,
    num_workers: int,
) -> "Generation":
    """What is found of so many samples; every process must call it, and they share the work."""
    from vqkit.evaluation import measure_generation
    from vqkit.priors import Prior

    device = subject.prior.slot_sizes.device
    histogram = Prior.from_pretrained(subject.run / HISTOGRAM, device=device)
    return measure_generation(
        {HISTOGRAM: histogram, LEARNED: subject.prior},
        subject.tokenizer,
        judges_of(subject, features),
        held_out=subject.held_out,
        training=subject.training,
        num=num,
        drawings={LEARNED: how},
        batch_size=batch_size,
        num_workers=num_workers,
        progress=True,
    )


def training_items(run: Path, tokenizer: Path) -> "Items | None":
    """The items that a prior was trained on, if they are at hand; if not, that is said."""
    from vqkit.cli.token_parts import prior_items
    from vqkit.distributed import is_main

    try:
        return prior_items(run, tokenizer, ())[0]
    except (OSError, ValueError) as error:
        if is_main():
            print(f"without training images: {message(error)}", file=sys.stderr)
        return None


def in_short(metrics: dict[str, Any]) -> list[str]:
    """The figures worth a glance, a line each."""
    space, settings = metrics["features"]["name"], changed(metrics["drawings"][LEARNED])
    drawn = ", ".join(filter(None, [counted(metrics["num_samples"], "sample"), settings]))
    lines = [f"over {drawn}, features of {space}:"]
    for key, name in SHOWN.items():
        for part, whose in WHOSE.items():
            if key in metrics.get(part, {}):
                lines.append(f"  {name + ', ' + whose:<34} {metrics[part][key]:.4f}")
    if "classifier_accuracy" in metrics:
        name = "class accuracy, held-out images"
        lines.append(f"  {name:<34} {metrics['classifier_accuracy']:.4f}")
    return lines
