"""Vector quantization with a codebook trained by gradient."""

from typing import Literal

import torch
import torch.nn.functional as F
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.means import Mean
from vqkit.quantizers.assignment import Assignment
from vqkit.quantizers.base import Quantized, squared_errors
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
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VQConfig(NearestOptions):
    """Nearest entry of a codebook trained by gradient."""

    type: Literal["vq"] = "vq"

    def build(self, dim: int) -> "VectorQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return VectorQuantizer(dim, self.codebook_size, **self.options())


class VectorQuantizer(LearnedQuantizer):
    """Replaces each vector by its nearest entry and pulls the two together by gradient.

    Neural Discrete Representation Learning, equation 3, https://arxiv.org/abs/1711.00937; squared
    errors are means over the coordinates, where the paper has sums.

    Args:
        dim: Length D of each vector.
        codebook_size: Number of entries K.
        commitment: Weight of the loss that pulls the encoder toward its entry.
        metric: "euclidean", or "cosine" for vectors and entries of length 1.
        start: What the entries begin with: "kmeans", the centres of the first vectors; "data",
            some of these vectors; "normal", random numbers of their mean and spread.
        gradient: What the encoder gets of the decoder's gradient: "straight_through", "rotation",
            or "directional", which moves the entries too and makes the objective 0: the terms are
            then only for logs.
        assignment: Which entry a vector gets in training: ``Nearest()``, ``Sampled()`` or
            ``Balanced()``.
        revive: Whether entries that nobody uses are replaced by vectors that fit badly.
        dead_after: Nobody uses an entry when it had no hit while uniform use would have given it
            so many.
        commit_in_forward: Whether each training forward ends with ``commit``. Turn it off, and
            call ``commit`` once per optimizer step, when a step has several forward passes
            (accumulation, activation checkpointing) or the codebook is shared.
        codebook: Entries shared with another quantizer; its own when None.
    """

    codebook_type: type[Codebook] = Codebook
    error_terms = ("codebook", "commitment")

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment: float = 0.25,
        metric: Metric = "euclidean",
        start: Start = "kmeans",
        gradient: Gradient = "straight_through",
        assignment: Assignment | None = None,
        revive: bool = True,
        dead_after: float = DEAD_AFTER,
        commit_in_forward: bool = True,
        codebook: Codebook | None = None,
    ) -> None:
        at_least_zero(commitment)
        checked_gradient(gradient)
        assignment = checked_assignment(assignment)
        super().__init__(
            dim,
            own_codebook(codebook, codebook_size, dim, metric, start, self.codebook_type),
            "gradients",
            revive=revive,
            dead_after=dead_after,
            commit_in_forward=commit_in_forward,
        )
        self.commitment = commitment
        self.gradient = gradient
        self.assignment = assignment

    @property
    def error_weight(self) -> float:
        return 0.0 if self.gradient == "directional" else 1 + self.commitment

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.prepared(z_e, mask)
        indices = self.chosen(z_e, mask)
        z_q = F.embedding(indices, self.table_of_pass())
        errors = squared_errors(z_q, z_e.detach())
        codebook = Mean.over(errors, mask)
        commitment = Mean.over(squared_errors(z_e, z_q.detach()), mask)
        total = codebook.total + self.commitment * commitment.total
        if self.gradient == "directional":
            total = torch.zeros_like(commitment.total)  # the gradient of z_q moves both
        self.follow(z_e, indices, errors, mask)
        return Quantized(
            z_q=self.passed(z_e, z_q, mask),
            indices=indices.unsqueeze(-1),
            objective=Mean(total, codebook.count),
            terms={"codebook": codebook, "commitment": commitment},
        )
