"""Squared error of vectors, each column on a scale of its own or all on one."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor, nn

from vqkit.means import Mean
from vqkit.modalities.vector.modality import VECTOR
from vqkit.modalities.vector.moments import Moments
from vqkit.schema import STRICT

Standardize = Literal["columns", "all", "none"]
CONSTANT = 1e-12  # a column whose variance is less of its mean square does not vary: float32
EQUAL = 1e-24  # of columns whose numbers are all the same, by the rounding of float64


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class SquaredErrorConfig:
    """Squared error over the variance of the data."""

    type: Literal["squared_error"] = "squared_error"
    standardize: Standardize = "columns"
    """What gets mean 0 and variance 1 before the encoder: each column by itself, all numbers by
    one scale (distances keep their order), or nothing."""

    def build(self, dim: int) -> "SquaredErrorObjective":
        """The objective of vectors of so many numbers."""
        return SquaredErrorObjective(dim, self.standardize)


@dataclass(frozen=True, slots=True)
class Point:
    """One vector for each item, and no density: no likelihood is claimed.

    Attributes:
        mean: The vectors, in the units of the data. (B, D)
    """

    mean: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Not for vectors.

        Raises:
            ValueError: Always.
        """
        raise ValueError("vectors have a squared error and no likelihood; read the mse instead")

    def mode(self) -> Tensor:
        """The vectors. (B, D)"""
        return self.mean

    def sample(self, seed: int, first: int = 0) -> Tensor:
        """The vectors; nothing is left to chance. (B, D)"""
        return self.mean


class SquaredErrorObjective(nn.Module):
    """Squared error of standardised vectors, over their variance.

    Neural Discrete Representation Learning, section 3.2, https://arxiv.org/abs/1711.00937, with a
    Gaussian decoder of constant width. The scales are learned before training, saved with the
    model, and undone in reconstructions.

    Args:
        dim: Number of columns D.
        standardize: What has a scale of its own: each of the ``columns``, ``all`` together, or
            ``none``.

    Attributes:
        shift: Subtracted from each column. (D,)
        scale: What each column is divided by then; 1 where it does not vary. (D,)
        variance: Mean variance of the columns after that. ()
    """

    modality = VECTOR
    claims_likelihood = False
    shift: Tensor
    scale: Tensor
    variance: Tensor

    def __init__(
        self, dim: int, standardize: Literal["columns", "all", "none"] = "columns"
    ) -> None:
        super().__init__()
        self.standardize = standardize
        self.register_buffer("shift", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self.register_buffer("variance", torch.ones(()))

    def num_outputs(self, channels: int) -> int:
        """Outputs for each vector: one for each column."""
        return channels

    def normalize(self, x: Tensor) -> Tensor:
        """Vectors in the units of the data to standardised ones. (B, D)

        Raises:
            ValueError: If they have another length.
        """
        if x.shape[1:2] != self.shift.shape:
            raise ValueError(
                f"the vectors have {x.shape[1]} numbers, the model {len(self.shift)}; give the "
                "columns that it was trained on"
            )
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        return (x - self.shift) / self.scale

    def distribution(self, outputs: Tensor) -> Point:
        """The vectors that the decoder's outputs (B, D) are, in the units of the data."""
        return Point(outputs * self.scale + self.shift)

    def loss(self, outputs: Tensor, x: Tensor, mask: Tensor | None = None) -> dict[str, Mean]:
        """The squared error over the variance, a mean over numbers.

        Args:
            outputs: What the decoder gave. (B, D)
            x: What it should have given, standardised. (B, D)
            mask: True where a vector is real; None when all are. (B,) bool
        """
        error = (outputs.to(x.dtype) - x).square() / self.variance
        real = None if mask is None else mask.unsqueeze(1).expand_as(error)
        return {"reconstruction": Mean.over(error, real)}

    @torch.no_grad()
    def observe(self, batches: Iterable[Tensor]) -> None:
        """Learns the scales from all vectors together; every rank must call it.

        Args:
            batches: Vectors as ``normalize`` gives them; ranks may have different ones. Each (N, D)

        Raises:
            ValueError: If nothing varies.
        """
        moments = Moments(len(self.shift), self.shift.device)
        for batch in batches:
            moments.add(batch.to(moments.mean) * self.scale + self.shift)
        _, mean, variance = moments.joined()
        check_varied(mean, variance)
        variance = torch.where(variance <= CONSTANT * (variance + mean.square()), 0, variance)
        scale = {
            "columns": torch.where(variance > 0, variance.sqrt(), 1),
            "all": variance.mean().sqrt().expand_as(variance),
            "none": torch.ones_like(variance),
        }[self.standardize]
        self.shift.copy_(torch.zeros_like(mean) if self.standardize == "none" else mean)
        self.scale.copy_(scale)
        self.variance.copy_((variance / scale.square()).mean())

    def calibrate(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Nothing: no likelihood is claimed."""


def check_varied(mean: Tensor, variance: Tensor) -> None:
    """Raises ValueError unless some column varies by more than float32 rounds it.

    Args:
        mean: Of each column. (D,) float64
        variance: Of each column. (D,) float64
    """
    square = variance + mean.square()
    if (variance > CONSTANT * square).any():
        return
    if (variance > EQUAL * square).any():
        raise ValueError(
            f"the vectors vary by less than float32 can tell at {mean.abs().max():.3g}; subtract "
            "their mean first"
        )
    raise ValueError(
        "the vectors do not vary in float32; give vectors that are not all equal, and subtract "
        "their mean first where it is large"
    )
