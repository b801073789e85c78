"""Entries drawn in training, with a gradient through the draw: Gumbel-softmax and SQ-VAE."""

import math
from abc import abstractmethod
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.means import Mean
from vqkit.quantizers.assignment import numbers
from vqkit.quantizers.base import Quantized, detached_at_padding, real_positions, squared_errors
from vqkit.quantizers.codebook import Codebook, Metric
from vqkit.quantizers.gradients import exactly
from vqkit.quantizers.learned import CodebookOptions, at_least_zero, own_codebook
from vqkit.quantizers.passes import of_pass
from vqkit.quantizers.revival import DEAD_AFTER
from vqkit.quantizers.soft import SoftQuantizer, Weighed, weigh
from vqkit.quantizers.start import Start
from vqkit.schema import STRICT, AtLeastZero, Divisor


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Annealing:
    """How draws begin soft and become hard."""

    start: Divisor = 1.0
    """Temperature at first."""
    end: Divisor = 0.1
    """Temperature at last; near 0 the entry drawn has all the weight."""
    steps: Annotated[int, Field(ge=1)] = 10_000
    """Number of steps in which it falls, geometrically, from start to end."""
    soft_steps: Annotated[int, Field(ge=0)] = 0
    """Number of first steps in which a vector becomes the weighed average of all entries;
    afterwards it becomes the entry drawn."""

    def temperature(self, step: Tensor) -> Tensor:
        """The temperature in a step. ()"""
        return self.start * (self.end / self.start) ** (step / self.steps).clamp(max=1)


class DrawingQuantizer(SoftQuantizer):
    """Draws an entry in training, by Gumbel noise on the logits; takes the nearest in evaluation.

    Categorical Reparameterization with Gumbel-Softmax, equation 2,
    https://arxiv.org/abs/1611.01144. The noise depends on the seed, the step and the number of the
    vector among all of the step.

    Args:
        dim: Length D of each vector.
        codebook_size: Number of entries K.
        weight: Weight of the losses; the kind's usual one when None.
        annealing: How draws begin soft and become hard.
        metric: "euclidean", or "cosine" for vectors and entries of length 1.
        start: What the entries begin with: "kmeans", the centres of the first vectors; "data",
            some of these vectors; "normal", random numbers of their mean and spread.
        revive: Whether entries that nobody uses are replaced by vectors that fit badly.
        dead_after: Nobody uses an entry when it had no hit while uniform use would have given it
            so many.
        commit_in_forward: Whether each training forward ends with ``commit``.
        codebook: Entries shared with another quantizer; its own when None.
    """

    usual_weight: float

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        weight: float | None = None,
        annealing: Annealing | None = None,
        metric: Metric = "euclidean",
        start: Start = "kmeans",
        revive: bool = True,
        dead_after: float = DEAD_AFTER,
        commit_in_forward: bool = True,
        codebook: Codebook | None = None,
    ) -> None:
        weight = at_least_zero(self.usual_weight if weight is None else weight, "weight")
        if annealing is not None and not isinstance(annealing, Annealing):
            raise TypeError(f"annealing is {annealing!r}; give Annealing(start=..., end=...)")
        super().__init__(
            dim,
            own_codebook(codebook, codebook_size, dim, metric, start),
            revive=revive,
            dead_after=dead_after,
            commit_in_forward=commit_in_forward,
        )
        self.weight = weight
        self.annealing = annealing or Annealing()

    @abstractmethod
    def losses(self, weighed: Weighed, precision: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss of each vector, (...), and its unweighted parts by name, (...).

        Args:
            weighed: What the weights of all entries give. Each (...), or (..., D)
            precision: What squared distances were multiplied by. ()
        """

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.prepared(z_e, mask)
        table = self.table_of_pass()
        precision = self.precision(table)
        weighed = self._weighed(z_e, table, precision, mask)
        indices = weighed.indices if self.training else self.codebook.nearest(z_e)
        indices = indices if mask is None else indices.masked_fill(~mask, 0)
        entries = F.embedding(indices, table).detach()
        z_q = exactly(entries, weighed.average)
        if self.training and self.annealing.soft_steps:
            soft = of_pass(lambda: self.codebook.step < self.annealing.soft_steps)
            z_q = torch.where(
                soft if mask is None else soft & mask.unsqueeze(-1), weighed.average, z_q
            )
        loss, parts = self.losses(weighed, precision)
        self.follow(z_e, indices, squared_errors(entries, z_e.detach()), mask)
        return Quantized(
            z_q=detached_at_padding(z_q, mask),
            indices=indices.unsqueeze(-1),
            objective=Mean.over(loss, mask),
            terms={name: Mean.over(part, mask) for name, part in parts.items()},
        )

    def _weighed(
        self, z_e: Tensor, table: Tensor, precision: Tensor, mask: Tensor | None
    ) -> Weighed:
        """The weights of all entries, with noise in training. Each (...), or (..., D)"""
        rows = (z_e if self.passes_gradient else z_e.detach()).reshape(-1, self.dim)
        rows, words, temperature = rows.to(self.codebook.entries.dtype), None, 1.0
        if self.training:
            # Copies, because a commit moves step and entries before the backward pass reads them.
            step = of_pass(self.codebook.step.clone)
            pending, real = self.codebook.pending_seen, real_positions(z_e, mask)
            words = self.codebook.random_seed, step, of_pass(lambda: numbers(pending, real))
            temperature = self.annealing.temperature(step).to(rows.dtype)
        found = weigh(rows, table.clone(), precision, temperature, words)
        shape = z_e.shape[:-1]
        return Weighed(
            found.average.view(z_e.shape),
            found.entropy.view(shape),
            found.gap.view(shape),
            found.indices.view(shape),
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GumbelConfig(CodebookOptions):
    """Entries drawn by distance, with a gradient through the draw."""

    type: Literal["gumbel"] = "gumbel"
    weight: AtLeastZero = 5e-4
    """Weight of the KL divergence of each vector's probabilities from uniform ones."""
    annealing: Annealing = Annealing()
    """How draws begin soft and become hard."""

    def build(self, dim: int) -> "GumbelQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return GumbelQuantizer(dim, self.codebook_size, **self.options())


class GumbelQuantizer(DrawingQuantizer):
    """Gumbel-softmax with a pull toward uniform probabilities.

    Zero-Shot Text-to-Image Generation, section 2.1, https://arxiv.org/abs/2102.12092, with logits
    by distance: -precision |z - e|^2 / D. Entries, precision and encoder are moved by the
    decoder's gradient and by the KL divergence; there is no commitment.

    Arguments as for ``DrawingQuantizer``; the usual weight is 5e-4.
    """

    usual_weight = 5e-4

    def losses(self, weighed: Weighed, precision: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        divergence = math.log(self.codebook.size) - weighed.entropy
        return self.weight * divergence, {"divergence": divergence}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SQConfig(CodebookOptions):
    """Entries drawn from a Gaussian around the vector whose variance is learned."""

    type: Literal["sq"] = "sq"
    weight: AtLeastZero = 1e-3
    """Weight of the two terms, per coordinate; with more, small encoder outputs stay small."""
    annealing: Annealing = Annealing()
    """How draws begin soft and become hard."""

    def build(self, dim: int) -> "StochasticQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return StochasticQuantizer(dim, self.codebook_size, **self.options())


class StochasticQuantizer(DrawingQuantizer):
    """Stochastic quantization whose variance is learned, and shrinks by itself.

    SQ-VAE: Variational Bayes on Discrete Representation with Self-annealed Stochastic
    Quantization, section 4.1 (Gaussian, one variance), https://arxiv.org/abs/2205.07547. The loss
    of a vector is precision |z - e|^2 / D, expected, less the entropy of its probabilities.

    Arguments as for ``DrawingQuantizer``; the usual weight is 1e-3. The loss does not depend on
    the scale of vectors and entries, so its gradient is large where they are small: with a weight
    of 0.1 an encoder whose last layer starts at 0 does not learn.
    """

    usual_weight = 1e-3

    def losses(self, weighed: Weighed, precision: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        distance = precision * weighed.gap
        loss = self.weight / self.dim * (distance - weighed.entropy)
        return loss, {"distance": distance, "entropy": weighed.entropy}
