"""A small classifier of images: a feature space, and a judge of samples that saw no code."""

from pathlib import Path
from typing import Annotated, Self

import torch
import torch.nn.functional as F
from pydantic import Field, TypeAdapter
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit import storage
from vqkit.modalities.image.levels import normalize
from vqkit.schema import STRICT

KIND = "classifier"
GRID = 16  # places along a side after the first convolution, at most
POOLED = 3  # places along a side that the features see
GROUPS = 4  # of channels, each normalised by itself


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ClassifierConfig:
    """Three convolutions and two linear maps."""

    channels: Annotated[int, Field(ge=1)]
    """Channels of the images."""
    labels: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the classes."""
    stride: Annotated[int, Field(ge=1)] = 2
    """Pixels that the first convolution moves on by."""
    width: Annotated[int, Field(ge=2, multiple_of=2)] = 24
    """Channels of the first convolution; the others have two and four times as many."""
    dim: Annotated[int, Field(ge=1)] = 128
    """Number of features."""

    def build(self) -> "ImageClassifier":
        """The classifier, with random weights."""
        return ImageClassifier(self)


class ImageClassifier(nn.Module):
    """Tells the class of an image; what it knows before its last map are features.

    Args:
        config: Widths and classes.
    """

    def __init__(self, config: ClassifierConfig) -> None:
        super().__init__()
        self.config = config
        width, stride = config.width, config.stride
        kernel = 3 if stride == 1 else 2 * stride
        pad = (kernel - stride + 1) // 2
        self.first = nn.Conv2d(config.channels, width, kernel, stride=stride, padding=pad)
        self.second = nn.Conv2d(width, 2 * width, 3, padding=1)
        self.second_norm = nn.GroupNorm(GROUPS, 2 * width)
        self.third = nn.Conv2d(2 * width, 4 * width, 3, padding=1)
        self.third_norm = nn.GroupNorm(GROUPS, 4 * width)
        self.project = nn.Linear(4 * width * POOLED**2, config.dim)
        self.classify = nn.Linear(config.dim, len(config.labels))

    def features(self, x: Tensor) -> Tensor:
        """What the last map sees of images.

        Args:
            x: Images, uint8 or floating in [-1, 1]. (B, C, H, W)

        Returns:
            Features, at least 0. (B, F)
        """
        h = F.relu(self.first(normalize(x)))
        h = F.relu(self.second_norm(halved(self.second(h))))
        h = F.relu(self.third_norm(halved(self.third(h))))
        h = F.adaptive_avg_pool2d(h, POOLED)
        return F.relu(self.project(h.flatten(1)))

    def forward(self, x: Tensor) -> Tensor:
        """Logits of the classes of images (B, C, H, W). (B, num_classes)"""
        return self.classify(self.features(x))

    def save_pretrained(self, folder: Path | str) -> None:
        """Writes weights and config into a folder, made when missing."""
        config = TypeAdapter(ClassifierConfig).dump_python(self.config, mode="json")
        storage.save_model(Path(folder), self, {"kind": KIND, "classifier": config})

    @classmethod
    def from_pretrained(cls, folder: Path | str, device: torch.device | str = "cpu") -> Self:
        """Opens what ``save_pretrained`` wrote, in evaluation mode.

        Raises:
            FileNotFoundError: If the folder does not hold a saved model.
            ValueError: If it holds another kind of model, or was damaged.
        """
        stored = storage.load_config(Path(folder))
        if stored.get("kind") != KIND:
            kind = stored.get("kind")
            raise ValueError(f"{folder} holds a model of kind {kind}, not a classifier; remove it")
        try:
            config = TypeAdapter(ClassifierConfig).validate_python(stored.get("classifier"))
        except ValueError as error:
            reason = " ".join(str(error).split())[:300]
            raise ValueError(f"{folder}: the config is damaged ({reason}); remove it") from None
        model = cls(config)
        storage.load_weights(Path(folder), model)
        return model.to(device).eval()


def halved(x: Tensor) -> Tensor:
    """The largest of each 2 x 2 places, of what is at least so large. (B, C, H, W)"""
    return F.max_pool2d(x, 2) if min(x.shape[-2:]) >= 2 * POOLED else x


def stride_for(height: int, width: int) -> int:
    """The stride by which the cost hardly grows with the size of the images; a power of two."""
    stride = 1
    while max(height, width) > GRID * stride:
        stride *= 2
    return stride
