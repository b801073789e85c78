"""Vector quantization with a codebook of running averages."""

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.means import Mean
from vqkit.quantizers.assignment import Assignment
from vqkit.quantizers.base import Quantized, squared_errors
from vqkit.quantizers.checks import numeric
from vqkit.quantizers.codebook import Codebook, Metric
from vqkit.quantizers.gradients import Gradient
from vqkit.quantizers.learned import (
    LearnedQuantizer,
    NearestOptions,
    at_least_zero,
    checked_assignment,
    checked_gradient,
    own_codebook,
)
from vqkit.quantizers.revival import DEAD_AFTER
from vqkit.quantizers.start import Start
from vqkit.schema import STRICT, AtLeastZero


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EMAConfig(NearestOptions):
    """Nearest entry of a codebook that averages the vectors it replaced."""

    type: Literal["ema"] = "ema"
    gradient: Literal["straight_through", "rotation"] = "straight_through"
    """What the encoder gets of the decoder's gradient: straight_through, as it is; rotation, turned
    and stretched as the vector was."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Weight of the past in the running averages."""
    decay_warmup: AtLeastZero = 0
    """How slowly the decay rises to its value: in step t, counted from 0, it is at most
    (1 + t) / (decay_warmup + t), so that early averages forget an encoder that still moves fast."""

    def build(self, dim: int) -> "EMAVectorQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return EMAVectorQuantizer(dim, self.codebook_size, **self.options())


class EMAVectorQuantizer(LearnedQuantizer):
    """Replaces each vector by its nearest entry, the running average of such vectors.

    Neural Discrete Representation Learning, appendix A.1, https://arxiv.org/abs/1711.00937

    Args:
        dim: Length D of each vector.
        codebook_size: Number of entries K.
        commitment: Weight of the loss that pulls the encoder toward its entry.
        decay: Weight of the past in the running averages, at least 0 and less than 1.
        decay_warmup: How slowly it rises to its value: in step t, counted from 0, it is at most
            (1 + t) / (decay_warmup + t).
        metric: "euclidean", or "cosine" for vectors and entries of length 1.
        start: What the entries begin with: "kmeans", the centres of the first vectors; "data",
            some of these vectors; "normal", random numbers of their mean and spread.
        gradient: What the encoder gets of the decoder's gradient: "straight_through" or
            "rotation".
        assignment: Which entry a vector gets in training: ``Nearest()``, ``Sampled()`` or
            ``Balanced()``.
        revive: Whether entries that nobody uses are replaced by vectors that fit badly.
        dead_after: Nobody uses an entry when it had no hit while uniform use would have given it
            so many.
        commit_in_forward: Whether each training forward moves the entries. Turn it off, and call
            ``commit`` once per optimizer step, when a step has several forward passes
            (accumulation, activation checkpointing) or the codebook is shared.
        codebook: Entries shared with another quantizer; its own when None.
    """

    error_terms = ("commitment",)

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment: float = 0.25,
        decay: float = 0.99,
        decay_warmup: float = 0,
        metric: Metric = "euclidean",
        start: Start = "kmeans",
        gradient: Gradient = "straight_through",
        assignment: Assignment | None = None,
        revive: bool = True,
        dead_after: float = DEAD_AFTER,
        commit_in_forward: bool = True,
        codebook: Codebook | None = None,
    ) -> None:
        if not 0 <= numeric(decay, "decay") < 1:
            raise ValueError(f"decay is {decay}; give a number of at least 0 and less than 1")
        at_least_zero(commitment)
        at_least_zero(decay_warmup, "decay_warmup")
        checked_gradient(
            gradient, without="averages move the entries, and a gradient for them has no effect"
        )
        assignment = checked_assignment(assignment)
        super().__init__(
            dim,
            own_codebook(codebook, codebook_size, dim, metric, start),
            "averages",  # no optimizer may
            revive=revive,
            dead_after=dead_after,
            commit_in_forward=commit_in_forward,
        )
        self.commitment = commitment
        self.decay = decay
        self.decay_warmup = decay_warmup
        self.gradient = gradient
        self.assignment = assignment

    @property
    def error_weight(self) -> float:
        return self.commitment

    @property
    def usage_decay(self) -> float | Tensor:
        if self.decay_warmup <= 1:
            return self.decay
        step = self.codebook.step.to(self.codebook.entries.dtype)
        return ((1 + step) / (self.decay_warmup + step)).clamp(max=self.decay)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.prepared(z_e, mask)
        indices = self.chosen(z_e, mask)
        z_q = F.embedding(indices, self.table_of_pass())  # without a gradient: averages move it
        errors = squared_errors(z_e, z_q)
        commitment = Mean.over(errors, mask)
        self.follow(z_e, indices, errors, mask)
        return Quantized(
            z_q=self.passed(z_e, z_q),
            indices=indices.unsqueeze(-1),
            objective=Mean(self.commitment * commitment.total, commitment.count),
            terms={"commitment": commitment},
        )
