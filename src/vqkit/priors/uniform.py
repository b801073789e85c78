"""The prior that knows nothing: every code is equally likely."""

from collections.abc import Sequence
from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.priors.base import Prior
from vqkit.priors.conditioning import Conditioning
from vqkit.priors.sampling import draw
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

    def sample(
        self,
        num: int,
        given: Conditioning | None = None,
        *,
        seed: int,
        first: int = 0,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
    ) -> Codes:
        self.check_labels(given, num)
        sizes = self.slot_sizes.tolist()

        def next_logits(slot: int, previous: Tensor) -> Tensor:
            return torch.zeros(num, sizes[slot], device=previous.device)

        return draw(
            next_logits,
            self.specs,
            self.items(num, first),
            seed=seed,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
        )
