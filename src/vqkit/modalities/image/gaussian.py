"""Squared error over the data's variance, and the Gaussian over grey levels that it stands for."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal

import torch
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor, nn
from torch.special import erfcx, log_ndtr, ndtr, ndtri

from vqkit import distributed
from vqkit.means import Mean
from vqkit.modalities.image.levels import (
    HALF_RANGE,
    item_uniforms,
    nearest_level,
    normalize,
    num_values,
    snap,
    to_level,
)
from vqkit.modalities.image.modality import IMAGE
from vqkit.schema import STRICT

FARTHEST, BINS_PER_LEVEL = 1024, 64  # of the histogram of errors that sigma is fitted to
SIGMA_RANGE = (0.01, 1000.0)  # grey levels


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class GaussianConfig:
    """Squared error over the data's variance; a Gaussian is fitted after training."""

    type: Literal["gaussian"] = "gaussian"

    def build(self) -> "GaussianObjective":
        """The objective."""
        return GaussianObjective()


@dataclass(frozen=True, slots=True)
class Gaussian:
    """A Gaussian around each output, integrated over each grey level.

    Attributes:
        mean: Mean of each value. (B, C, H, W)
        sigma: Standard deviation, in the units of the images. ()
        calibrated: Whether sigma was fitted. () bool
    """

    mean: Tensor
    sigma: Tensor
    calibrated: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of the grey levels of each image, in nats.

        Args:
            x: Images, uint8 or in [-1, 1], where each value counts as its nearest grey level.
                (B, C, H, W)

        Returns:
            Sums over the values of an image. (B,) float64

        Raises:
            ValueError: If sigma was not fitted.
        """
        levels, sigma = nearest_level(x), self._sigma() * HALF_RANGE
        offset = levels - to_level(self.mean)
        return log_interval(offset, levels == 0, levels == 255, sigma).flatten(1).sum(1)

    def mode(self) -> Tensor:
        """The most probable images, between grey levels too. (B, C, H, W) in [-1, 1]"""
        return self.mean.clamp(-1, 1)

    def sample(self, seed: int, first: int = 0) -> Tensor:
        """Images of grey levels, of which item i depends on (seed, first + i).

        Args:
            seed: Any integer.
            first: Number of the first item: draw many in parts by it.

        Returns:
            Images. (B, C, H, W) in [-1, 1]

        Raises:
            ValueError: If sigma was not fitted.
        """
        noise = ndtri(item_uniforms(seed, self.mean.shape, self.mean.device, first))
        return snap(self.mean + self._sigma() * noise).to(self.mean.dtype)

    def _sigma(self) -> Tensor:
        if not self.calibrated:
            raise ValueError(
                "sigma was not fitted, so no likelihood is claimed; call the objective's "
                "calibrate with outputs and images first"
            )
        return self.sigma.double()


class GaussianObjective(nn.Module):
    """Squared error over the variance of the data.

    Neural Discrete Representation Learning, section 3.2, https://arxiv.org/abs/1711.00937: a
    Gaussian decoder of constant width. The variance makes the losses of unlike data comparable;
    the width is fitted after training, and until then no likelihood is claimed.

    Attributes:
        variance: Variance of the data in [-1, 1]; 1 until ``observe``. ()
        sigma: Width of the Gaussian, in the same units. ()
        calibrated: Whether sigma was fitted. () bool
    """

    modality = IMAGE
    variance: Tensor
    sigma: Tensor
    calibrated: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("variance", torch.ones(()))
        self.register_buffer("sigma", torch.ones(()))
        self.register_buffer("calibrated", torch.zeros((), dtype=torch.bool))

    @property
    def claims_likelihood(self) -> bool:
        """Whether sigma was fitted."""
        return bool(self.calibrated)

    def num_outputs(self, channels: int) -> int:
        """Outputs for each pixel: a mean for each channel."""
        return channels

    def normalize(self, x: Tensor) -> Tensor:
        """Grey levels (uint8) to [-1, 1]; floats as they are. (...)"""
        return normalize(x)

    def distribution(self, outputs: Tensor) -> Gaussian:
        """What the decoder's outputs (B, C, H, W) mean."""
        return Gaussian(outputs, self.sigma, self.calibrated)

    def loss(self, outputs: Tensor, x: Tensor, mask: Tensor | None = None) -> dict[str, Mean]:
        """The squared error over the variance, a mean over real values.

        Args:
            outputs: What the decoder gave. (B, C, *grid)
            x: What it should have given. (B, C, *grid) in [-1, 1]
            mask: True where x is real; None when all is. (B, *grid) bool
        """
        error = outputs.to(torch.promote_types(x.dtype, torch.float32)) - x
        if mask is not None:
            error = error.masked_fill(~mask.unsqueeze(1), 0)
        total = error.square().sum() / self.variance
        return {"reconstruction": Mean(total, num_values(x, mask))}

    @torch.no_grad()
    def observe(self, batches: Iterable[Tensor]) -> None:
        """Sets the variance to that of all values together; every rank must call it.

        Args:
            batches: Values; ranks may have different ones or the same. Each (...) in [-1, 1]

        Raises:
            ValueError: If there are no values, or all are equal.
        """
        sums = torch.zeros(3, dtype=torch.float64, device=self.variance.device)
        for batch in batches:
            x = batch.to(sums)
            sums += torch.stack([sums.new_tensor(x.numel()), x.sum(), x.square().sum()])
        count, total, squares = distributed.all_reduce(sums).tolist()
        variance = (squares - total**2 / count) / count if count else 0.0
        if variance < 1e-9:
            raise ValueError(
                f"the {count:.0f} values to learn from have no variance; give images that are "
                "not all of one grey"
            )
        self.variance.fill_(variance)

    @torch.no_grad()
    def calibrate(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fits sigma by maximum likelihood of the grey levels; every rank must call it.

        Args:
            pairs: Outputs, and the images they stand for; ranks may have different ones or the
                same. Each (B, C, H, W) in [-1, 1]

        Raises:
            ValueError: If there are no pairs.
        """
        counts = torch.zeros(3 * 2 * FARTHEST * BINS_PER_LEVEL, dtype=torch.int64)
        counts = counts.to(self.sigma.device)
        for outputs, x in pairs:
            counts += histogram_of_errors(outputs, x)
        counts = distributed.all_reduce(counts).cpu().reshape(3, -1)
        if not counts.any():
            raise ValueError("there are no images to fit sigma to; give at least one batch")
        self.sigma.fill_(fitted_sigma(counts) / HALF_RANGE)
        self.calibrated.fill_(True)


def log_interval(offset: Tensor, lowest: Tensor, highest: Tensor, sigma: Tensor) -> Tensor:
    """Log of the mass of a Gaussian between half a grey level below and half a level above.

    With a < b <= 0, log(ndtr(b) - ndtr(a)) = log ndtr(b) + log(1 - ndtr(a) / ndtr(b)), and the
    ratio is exp((b^2 - a^2) / 2) erfcx(-a / sqrt 2) / erfcx(-b / sqrt 2): nothing underflows.

    Args:
        offset: Level minus mean, in grey levels. (...) float64
        lowest: Whether the level is 0, whose interval is open below. (...) bool
        highest: Whether the level is 255, whose interval is open above. (...) bool
        sigma: Standard deviation in grey levels. ()

    Returns:
        Nats. (...) float64
    """
    middle, half = -offset.abs() / sigma, 0.5 / sigma  # by symmetry, the lower half is enough
    low, high = middle - half, middle + half
    scaled = erfcx(-low / math.sqrt(2)) / erfcx(-high.clamp(max=0) / math.sqrt(2))
    tail = log_ndtr(high.clamp(max=0)) + torch.log1p(-scaled * torch.exp(2 * half * middle))
    around = torch.log1p(-ndtr(low) - ndtr(-high))  # the interval holds the mean
    inside = torch.where(high > 0, around, tail)
    inside = torch.where(lowest, log_ndtr((offset + 0.5) / sigma), inside)
    return torch.where(highest, log_ndtr((0.5 - offset) / sigma), inside)


def histogram_of_errors(outputs: Tensor, x: Tensor) -> Tensor:
    """How often each error occurs, on inner levels, on level 0 and on level 255.

    Returns:
        Counts, for three kinds of level one after another. (3 * bins,) int64
    """
    levels = nearest_level(x)
    kind = (levels == 0).long() + 2 * (levels == 255).long()
    bins = 2 * FARTHEST * BINS_PER_LEVEL
    place = ((levels - to_level(outputs) + FARTHEST) * BINS_PER_LEVEL).floor().long()
    return torch.bincount((kind * bins + place.clamp(0, bins - 1)).flatten(), minlength=3 * bins)


def fitted_sigma(counts: Tensor) -> float:
    """The sigma under which a histogram of errors is most probable.

    Args:
        counts: What ``histogram_of_errors`` gave. (3, bins) int64

    Returns:
        Standard deviation in grey levels.
    """
    kind, place = counts.nonzero(as_tuple=True)
    offset = (place.double() + 0.5) / BINS_PER_LEVEL - FARTHEST
    weight = counts[kind, place].double()

    def log_likelihood(log_sigma: float) -> float:
        sigma = torch.tensor(math.exp(log_sigma), dtype=torch.float64)
        return float(weight @ log_interval(offset, kind == 1, kind == 2, sigma))

    low, high = (math.log(bound) for bound in SIGMA_RANGE)
    return math.exp(highest_point(log_likelihood, low, high))


def highest_point(function: Callable[[float], float], low: float, high: float) -> float:
    """Where a function with one peak is highest, by golden section, to 1e-9 of the interval."""
    ratio = (math.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    for _ in range(43):
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2
