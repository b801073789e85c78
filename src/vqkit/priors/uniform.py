"""The prior that knows nothing: every code is equally likely."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.priors.base import Prior
from vqkit.priors.conditioning import Conditioning
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class UniformConfig:
    """Every code equally likely: the prior of the VQ-VAE paper's training."""

    type: Literal["uniform"] = "uniform"

    def build(self, specs: Sequence[LevelSpec], num_classes: int | None = None) -> "UniformPrior":
        """The prior over codes of these levels."""
        return UniformPrior(specs, num_classes)


class UniformPrior(Prior):
    """Every code is equally likely: log p is minus the sum of log K; labels make no difference."""

    @property
    def config(self) -> UniformConfig:
        return UniformConfig()

    def nats(self, codes: Codes, given: Conditioning | None = None) -> Tensor:
        flat, mask = self.check_codes(codes), codes.flat_mask()
        self.check_labels(given, len(flat))
        nats = self.slot_sizes.double().log().expand(flat.shape)
        return nats if mask is None else nats.masked_fill(~mask, 0)

    def next_logits(
        self, num: int, given: Conditioning | None = None
    ) -> Callable[[int, Tensor], Tensor]:
        self.check_labels(given, num)
        rows = [torch.zeros(size) for size in self.slot_sizes.tolist()]
        return lambda slot, previous: rows[slot].to(previous.device).expand(num, -1)
