"""A mixture of logistics over grey levels."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass as config_dataclass
from torch import Tensor, nn

from vqkit.means import Mean
from vqkit.modalities.image.levels import HALF_RANGE, item_uniforms, normalize, num_values, snap
from vqkit.modalities.image.modality import IMAGE
from vqkit.schema import STRICT

LOG_SCALES = (-7.0, 7.0)  # narrower than a tenth of a level, wider than all levels
HALF_LEVEL = 0.5 / HALF_RANGE


@config_dataclass(frozen=True, kw_only=True, config=STRICT)
class LogisticMixtureConfig:
    """Likelihood of grey levels under a mixture of logistics."""

    type: Literal["logistic_mixture"] = "logistic_mixture"
    num_components: Annotated[int, Field(ge=1)] = 10
    """Number of logistics mixed for each pixel."""

    def build(self) -> "LogisticMixtureObjective":
        """The objective."""
        return LogisticMixtureObjective(self.num_components)


@dataclass(frozen=True, slots=True)
class LogisticMixture:
    """A mixture of logistics for each pixel, integrated over each grey level.

    PixelCNN++, section 2, https://arxiv.org/abs/1701.05517: the component is one for all channels
    of a pixel, and the mean of a channel moves with the channels before it.

    Attributes:
        logits: Log-weights of the components, up to a constant. (B, M, H, W)
        means: Means, without what earlier channels add. (B, C, M, H, W)
        log_scales: Log of the scales. (B, C, M, H, W)
        slopes: How far each earlier channel moves each mean: for C = 3 green by red, blue by red,
            blue by green, and none for C = 1. (B, C (C - 1) / 2, M, H, W)
    """

    logits: Tensor
    means: Tensor
    log_scales: Tensor
    slopes: Tensor

    def pixel_log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of the grey levels of each pixel, all channels together, in nats.

        Args:
            x: Images of grey levels. (B, C, H, W) in [-1, 1]

        Returns:
            One number per pixel. (B, H, W)
        """
        means = torch.stack([self._mean(c, x) for c in range(x.shape[1])], dim=1)
        channels = log_level(x.unsqueeze(2), means, self.log_scales)
        return torch.logsumexp(F.log_softmax(self.logits, dim=1) + channels.sum(1), dim=1)

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of the grey levels of each image, in nats.

        Args:
            x: Images, uint8 or in [-1, 1], where each value counts as its nearest grey level.
                (B, C, H, W)

        Returns:
            Sums over the pixels of an image. (B,) float64
        """
        parts = (self.logits, self.means, self.log_scales, self.slopes)
        precise = LogisticMixture(*(part.double() for part in parts))
        return precise.pixel_log_prob(snap(x)).flatten(1).sum(1)

    def mode(self) -> Tensor:
        """The means of each pixel's most probable component; the true mode has no closed form.

        Returns:
            Images, between grey levels too. (B, C, H, W) in [-1, 1]
        """
        component = self._component(self.logits.argmax(1))
        x = self.means[:, :0, 0]
        for c in range(self.means.shape[1]):
            x = torch.cat([x, component._mean(c, x).clamp(-1, 1)], dim=1)
        return x

    def sample(self, seed: int, first: int = 0) -> Tensor:
        """Images of grey levels, of which item i depends on (seed, first + i).

        Args:
            seed: Any integer.
            first: Number of the first item: draw many in parts by it.

        Returns:
            Images. (B, C, H, W) in [-1, 1]
        """
        items, channels, components, *grid = self.means.shape
        shape = (items, components + channels, *grid)
        numbers = item_uniforms(seed, shape, self.means.device, first)
        choice, noise = numbers.split([components, channels], dim=1)
        gumbel = -torch.log(-torch.log(choice))
        component = self._component((self.logits + gumbel).argmax(1))
        deviation = component.log_scales[:, :, 0].exp() * torch.logit(noise)
        x = self.means[:, :0, 0].double()
        for c in range(channels):
            drawn = component._mean(c, x) + deviation[:, c : c + 1]
            x = torch.cat([x, snap(drawn)], dim=1)
        return x.to(self.means.dtype)

    def _mean(self, c: int, x: Tensor) -> Tensor:
        """Means of channel c, given images whose channels before c are known. (B, M, H, W)"""
        mean, first = self.means[:, c], c * (c - 1) // 2
        for earlier in range(c):
            mean = mean + self.slopes[:, first + earlier] * x[:, earlier, None]
        return mean

    def _component(self, index: Tensor) -> "LogisticMixture":
        """The mixture of one component only, chosen for each pixel by ``index`` (B, H, W)."""
        place = index[:, None, None]

        def pick(part: Tensor) -> Tensor:
            return part.gather(2, place.expand(-1, part.shape[1], -1, -1, -1))

        logits = self.logits.gather(1, index.unsqueeze(1))
        return LogisticMixture(logits, pick(self.means), pick(self.log_scales), pick(self.slopes))


class LogisticMixtureObjective(nn.Module):
    """Negative log-likelihood of the grey levels under a mixture of logistics.

    PixelCNN++, equation 2, https://arxiv.org/abs/1701.05517

    Args:
        num_components: Number of logistics M mixed for each pixel.
    """

    modality = IMAGE

    def __init__(self, num_components: int = 10) -> None:
        super().__init__()
        self.num_components = num_components

    @property
    def claims_likelihood(self) -> bool:
        """Always: the likelihood is what is trained."""
        return True

    def num_outputs(self, channels: int) -> int:
        """Outputs for each pixel: a weight, and a mean, a scale and slopes for each channel."""
        return self.num_components * (1 + 2 * channels + channels * (channels - 1) // 2)

    def normalize(self, x: Tensor) -> Tensor:
        """Grey levels (uint8) to [-1, 1]; floats as they are. (...)"""
        return normalize(x)

    def distribution(self, outputs: Tensor) -> LogisticMixture:
        """What the decoder's outputs (B, O, H, W) mean.

        Raises:
            ValueError: If O is not ``num_outputs`` of any number of channels.
        """
        channels = (math.isqrt(8 * (outputs.shape[1] // self.num_components) + 1) - 3) // 2
        if channels < 1 or outputs.shape[1] != self.num_outputs(channels):
            raise ValueError(
                f"the decoder gave {outputs.shape[1]} outputs for each pixel; give num_outputs of "
                f"the images' channels, such as {self.num_outputs(3)} for 3 channels"
            )
        precise = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
        parts = precise.unflatten(1, (-1, self.num_components))
        counts = [1, channels, channels, channels * (channels - 1) // 2]
        logits, means, log_scales, slopes = parts.split(counts, dim=1)
        return LogisticMixture(
            logits.squeeze(1), means, log_scales.clamp(*LOG_SCALES), slopes.tanh()
        )

    def loss(self, outputs: Tensor, x: Tensor, mask: Tensor | None = None) -> dict[str, Mean]:
        """The negative log-likelihood in nats, a mean over real values.

        Args:
            outputs: What the decoder gave. (B, O, H, W)
            x: Images of grey levels. (B, C, H, W) in [-1, 1]
            mask: True where a pixel is real; None when all are. (B, H, W) bool
        """
        nats = -self.distribution(outputs).pixel_log_prob(x)
        if mask is not None:
            nats = nats.masked_fill(~mask, 0)
        return {"reconstruction": Mean(nats.sum(), num_values(x, mask))}

    def observe(self, batches: Iterable[Tensor]) -> None:
        """Does nothing: the likelihood needs no scale of the data."""

    def calibrate(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Does nothing: the likelihood is what is trained."""


def log_level(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """Log of the mass of logistics between half a grey level below and half a level above.

    sigmoid(a) - sigmoid(b) = sigmoid(a) sigmoid(-b) (1 - exp(b - a)), and a - b is the width of a
    level in scales: nothing is subtracted that could cancel. Levels 0 and 255 are open outward.

    Args:
        x: Grey levels. (...) in [-1, 1]
        mean: Means. (...)
        log_scale: Log of the scales, within ``LOG_SCALES``. (...)

    Returns:
        Nats. (...)
    """
    precision = torch.exp(-log_scale)
    above = F.logsigmoid((x - mean + HALF_LEVEL) * precision)  # below the level's upper end
    below = F.logsigmoid(-(x - mean - HALF_LEVEL) * precision)  # above its lower end
    width = torch.log(-torch.expm1(-2 * HALF_LEVEL * precision))
    inside = above + below + width
    return torch.where(x < HALF_LEVEL - 1, above, torch.where(x > 1 - HALF_LEVEL, below, inside))
