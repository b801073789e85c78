"""How good new images are: beside held-out ones in a feature space, and beside training ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.data import Examples
from vqkit.drawing import PLAIN, Drawing
from vqkit.evaluation.draws import first_draws, labels_like
from vqkit.evaluation.features import Featured
from vqkit.evaluation.frechet import Moments, frechet_distance
from vqkit.evaluation.gallery import pictures_of
from vqkit.evaluation.neighbors import precision_recall
from vqkit.evaluation.study import SEED, Judges, Study, chosen
from vqkit.modalities.base import Modality
from vqkit.nn.evaluating import device_of
from vqkit.priors import Prior

LEARNED, TRAINING = "learned", "training_images"


@dataclass(frozen=True, slots=True, eq=False)
class Generation:
    """What was found of new images.

    Attributes:
        metrics: All figures by name, as JSON values; docs/evaluation.md says what each means.
        samples: Pictures of some new images of the learned prior. (N, C, H, W) uint8
        neighbors: The nearest training images of each, nearest first; none without training
            images. Each (N, C, H, W) uint8
    """

    metrics: dict[str, Any]
    samples: Tensor
    neighbors: tuple[Tensor, ...]


def measure_generation(
    priors: Mapping[str, Prior],
    tokenizer: VQVAE,
    judges: Judges,
    *,
    held_out: Examples,
    training: Examples | None,
    num: int,
    drawings: Mapping[str, Drawing] | None = None,
    num_shown: int = 10,
    batch_size: int = 64,
    num_workers: int = 0,
    progress: bool = False,
) -> Generation:
    """Draws from priors and compares what comes with held-out images; ranks share the work.

    Classes are drawn as often as they occur among the held-out images.

    Args:
        priors: By name, the one of interest as ``learned``; on the device of the tokenizer.
        tokenizer: Decodes their codes.
        judges: What images are judged by, on the same device.
        held_out: Real images, that neither prior nor tokenizer was trained on.
        training: Those that they were trained on, without augmentation; None leaves out the
            reference and the neighbours.
        num: Number of images from each prior.
        drawings: How the images of a prior are drawn; plainly where nothing is said of it.
        num_shown: Samples that are kept to be shown.
        batch_size: Images at once.
        num_workers: Processes that read ahead; 0 reads in this one.
        progress: Whether to show bars.
    """
    device = device_of(tokenizer)
    modality = tokenizer.objective.modality
    study = Study(judges, modality, device, batch_size, num_workers, progress)
    real = study.examples(held_out, range(len(held_out)), "features")
    how = {name: (drawings or {}).get(name, PLAIN) for name in priors}
    labels = None if real.labels is None else labels_like(real.labels, num)
    found = {
        name: study.samples(prior, tokenizer, num, labels, how[name])
        for name, prior in priors.items()
    }
    few, own = min(num, num_shown), how[LEARNED]
    shown = first_draws(priors[LEARNED], tokenizer, few, labels, seed=SEED, how=own)
    if training is not None:
        found[TRAINING] = study.examples(training, chosen(len(training), num), "references")
    metrics = {
        "num_samples": num,
        "seed": SEED,
        "drawings": {name: each.settings() for name, each in how.items()},
        **figures(judges, real, found),
    }
    if training is None:
        return Generation(metrics, *drawn_beside(modality, held_out, shown, ()))
    near = study.nearest(training, found[LEARNED], real)
    metrics["neighbors"] = near.metrics
    columns = near.numbers[: len(shown)].T.tolist()
    return Generation(metrics, *drawn_beside(modality, training, shown, columns))


def drawn_beside(
    modality: Modality,
    training: Examples,
    shown: Sequence[Tensor],
    columns: Sequence[Sequence[int]],
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Pictures of samples and of their nearest training items; none if there are none."""
    items = [*shown, *(x for each in columns for x in items_of(modality, training, each))]
    drawn = pictures_of(modality, items)
    if drawn is None:
        return torch.zeros(0, 1, 1, 1, dtype=torch.uint8), ()
    first, *others = drawn.split(len(shown))
    return first, tuple(others)


def figures(judges: Judges, real: Featured, found: Mapping[str, Featured]) -> dict[str, Any]:
    """The figures of all images that were found, beside the held-out ones, as JSON values."""
    metrics: dict[str, Any] = {
        "num_held_out": len(real),
        "features": {"name": judges.space.name, "dim": judges.space.dim},
        "k": judges.k,
        "num_for_recall": min(len(found[LEARNED]), len(real)),
        **{name: compared(real, each, judges.k) for name, each in found.items()},
    }
    if judges.classifier is not None and real.hits is not None:
        metrics["classifier_accuracy"] = float(real.hits.double().mean())
        metrics["classes"] = by_class(judges.classifier.config.labels, real, found[LEARNED])
    ceiling = metrics.get(TRAINING, {}).get("recall")
    if ceiling:
        metrics["recall_ratio"] = metrics[LEARNED]["recall"] / ceiling
    return metrics


def compared(real: Featured, found: Featured, k: int) -> dict[str, float]:
    """The figures of some images beside the held-out ones, as JSON values.

    Precision and recall, which want as many of both and more than k, are left out of fewer.
    """
    moments = (Moments.of(each.features) for each in (real, found))
    figures = {"frechet_distance": frechet_distance(*moments)}
    num = min(len(real), len(found))
    if num > k:
        some = torch.tensor(chosen(len(real), num), device=real.features.device)
        both = precision_recall(real.features[some], found.features[:num], k)
        figures["precision"], figures["recall"] = both
    if found.hits is not None:
        figures["class_accuracy"] = float(found.hits.double().mean())
    return figures


def by_class(labels: Sequence[str], real: Featured, found: Featured) -> list[dict[str, Any]]:
    """How often the classifier is right on each class, as JSON values."""
    classes = []
    for number, name in enumerate(labels):
        row: dict[str, Any] = {"name": name}
        for key, images in (("held_out", real), ("samples", found)):
            if images.hits is not None:
                mine = images.hits[images.labels == number]
                row[f"num_{key}"] = len(mine)
                if len(mine):
                    row[f"accuracy_{key}"] = float(mine.double().mean())
        classes.append(row)
    return classes


def items_of(modality: Modality, examples: Examples, numbers: Sequence[int]) -> list[Tensor]:
    """Some items of a data set as their files hold them. Each (C, *grid)"""
    return [modality.stored(examples.example(number).x) for number in numbers]
