"""Feature spaces in which images are compared; whoever compares says in which."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.distributed import gather_rows
from vqkit.evaluation.classifier import ImageClassifier

Labelled = tuple[Tensor, Tensor | None]


class FeatureSpace(Protocol):
    """What turns images into vectors."""

    @property
    def name(self) -> str:
        """How the space is called beside every figure that was measured in it."""
        ...

    @property
    def dim(self) -> int:
        """Number of features F."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """The features of images.

        Args:
            images: uint8, or floating in [-1, 1]. (B, C, H, W)

        Returns:
            On the device of the images. (B, F) float32
        """
        ...


class ClassifierFeatures:
    """What a classifier knows of an image before it decides.

    Args:
        classifier: Trained, in evaluation mode.
    """

    name = "classifier"

    def __init__(self, classifier: ImageClassifier) -> None:
        self.classifier = classifier
        self.dim = classifier.config.dim

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, F) of images (B, C, H, W)."""
        return self.classifier.features(images).float()


class EncoderFeatures:
    """What a tokenizer's encoder makes of an image: z_e of each level, averaged over its grid.

    Args:
        tokenizer: Trained.
    """

    name = "encoder"

    def __init__(self, tokenizer: VQVAE) -> None:
        self.tokenizer = tokenizer
        self.dim = sum(quantizer.dim for quantizer in tokenizer.quantizers)

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, F) of images (B, C, H, W), the coarsest level first."""
        levels = range(len(self.tokenizer.quantizers))
        vectors = (self.tokenizer.inputs(images, level=level)[0] for level in levels)
        pooled = [each.float().reshape(len(each), -1, each.shape[-1]).mean(1) for each in vectors]
        return torch.cat(pooled, dim=1)


@dataclass(frozen=True, slots=True, eq=False)
class Featured:
    """Images as vectors.

    Attributes:
        features: (N, F) float32
        labels: Class of each; None without labels. (N,) int64
        predicted: Class of each by a classifier; None without one. (N,) int64
    """

    features: Tensor
    labels: Tensor | None
    predicted: Tensor | None

    def __len__(self) -> int:
        return len(self.features)

    @property
    def hits(self) -> Tensor | None:
        """Whether the classifier found the class of each; None without either. (N,) bool"""
        if self.labels is None or self.predicted is None:
            return None
        return self.labels == self.predicted


@torch.no_grad()
def featurize(
    batches: Iterable[Labelled],
    space: FeatureSpace,
    *,
    device: torch.device,
    labelled: bool,
    classifier: ImageClassifier | None = None,
) -> Featured:
    """The features of all images, of the lower ranks first; every rank must call it.

    Args:
        batches: This rank's images (B, C, H, W) on the device, and their labels (B,); maybe none.
        space: The feature space.
        device: Where the images are.
        labelled: Whether the batches have labels, the same on every rank.
        classifier: Judges the class of every image; None: nobody does.
    """
    none = torch.zeros(0, dtype=torch.int64, device=device)
    features, labels, predicted = [torch.zeros(0, space.dim, device=device)], [none], [none]
    for images, classes in batches:
        features.append(space(images))
        if labelled and classes is not None:
            labels.append(classes)
        if classifier is not None:
            predicted.append(classifier(images).argmax(1))
    return Featured(
        gather_rows(torch.cat(features)),
        gather_rows(torch.cat(labels)) if labelled else None,
        None if classifier is None else gather_rows(torch.cat(predicted)),
    )
