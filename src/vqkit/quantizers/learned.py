"""What quantizers with one codebook have in common."""

from collections.abc import Iterator
from dataclasses import fields
from typing import Annotated, Any

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.quantizers.assignment import Assignment, AssignmentConfig, Nearest
from vqkit.quantizers.base import Quantizer, mask_out, real_positions, real_rows
from vqkit.quantizers.checks import numeric, truth
from vqkit.quantizers.codebook import USAGE_DECAY, Codebook, Metric, Mover
from vqkit.quantizers.gradients import GRADIENTS, Gradient
from vqkit.quantizers.passes import of_pass
from vqkit.quantizers.revival import DEAD_AFTER
from vqkit.quantizers.start import Start
from vqkit.schema import SMALLEST, STRICT, AtLeastZero


# Field, because a class that inherits them would lose docstrings under fields.
@dataclass(frozen=True, kw_only=True, config=STRICT)
class CodebookOptions:
    """What every quantizer with a learned codebook can be told."""

    codebook_size: Annotated[int, Field(ge=2, description="Number of entries K.")] = 512
    metric: Annotated[
        Metric,
        Field(description="euclidean; or cosine, where vectors and entries have length 1."),
    ] = "euclidean"
    start: Annotated[
        Start,
        Field(
            description="What the entries begin with: kmeans, the centres of the first vectors; "
            "progressive, centres found in few principal directions first, for long vectors; "
            "data, some of these vectors; normal, random numbers of their mean and spread."
        ),
    ] = "kmeans"
    revive: Annotated[
        bool,
        Field(
            description="Whether entries that nobody uses are replaced by vectors that fit badly."
        ),
    ] = True
    dead_after: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Nobody uses an entry when it had no hit while uniform use would have "
            "given it so many. With more, the error is smaller and use less even.",
        ),
    ] = DEAD_AFTER

    def options(self) -> dict[str, Any]:
        """Every key but the type and the size, as the layer names them."""
        keys = [field.name for field in fields(self)]
        return {key: getattr(self, key) for key in keys if key not in ("type", "codebook_size")}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NearestOptions(CodebookOptions):
    """What a quantizer that picks one entry can be told."""

    commitment: Annotated[
        AtLeastZero,
        Field(description="Weight of the loss that pulls the encoder toward its entry."),
    ] = 0.25
    gradient: Annotated[
        Gradient,
        Field(
            description="What the encoder gets of the decoder's gradient: straight_through, as it "
            "is; rotation, turned and stretched as the vector was; directional, shared with the "
            "entry, without other losses."
        ),
    ] = "straight_through"
    assignment: Annotated[
        AssignmentConfig, Field(description="Which entry a vector gets in training.")
    ] = Nearest()


class LearnedQuantizer(Quantizer):
    """A quantizer that looks up one codebook of entries that follow the data.

    Args:
        dim: Length D of each vector.
        codebook: The entries.
        mover: What moves them.
        revive: Whether entries that nobody uses are replaced by vectors that fit badly.
        dead_after: Nobody uses an entry when it had no hit while uniform use would have given it
            so many.
        commit_in_forward: Whether each training forward ends with ``commit``.

    Attributes:
        error_terms: Names of the losses, where all are squared errors of the entry that was taken.
    """

    assignment: Assignment = Nearest()
    error_terms: tuple[str, ...] = ()
    decay: float = USAGE_DECAY

    def __init__(
        self,
        dim: int,
        codebook: Codebook,
        mover: Mover,
        *,
        revive: bool = True,
        dead_after: float = DEAD_AFTER,
        commit_in_forward: bool = True,
    ) -> None:
        super().__init__(dim)
        self.codebook = codebook
        self.revive = truth(revive, "revive")
        self.dead_after = above_zero(dead_after, "dead_after")
        self.commit_in_forward = truth(commit_in_forward, "commit_in_forward")
        codebook.claim(mover)  # last: what is refused has claimed nothing

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook.size,)

    @property
    def error_weight(self) -> float:
        """Weight of the mean squared error in the objective's value."""
        return 0.0

    @property
    def usage_decay(self) -> float | Tensor | None:
        """Weight of the past in the averages; None where they only tell of use."""
        return None

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        z_e = self.codebook.project(self.checked(z_e, mask))
        return mask_out(self.codebook.nearest(z_e).unsqueeze(-1), mask)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self.codebook.lookup(indices.squeeze(-1))

    def commit(self) -> None:
        """Takes in what was collected since the last commit, and revives dead entries."""
        decay = self.usage_decay
        self.codebook.commit(decay)
        if self.revive:
            self.codebook.revive(decay, self.dead_after)

    def initialize(
        self, z_e: Tensor, mask: Tensor | None = None, *, seed: int, keep_started: bool = False
    ) -> None:
        rows = real_rows(self.checked(z_e, mask), mask)
        if not (keep_started and self.codebook.is_initialized):
            self.codebook.initialize(self.codebook.project(rows), seed=seed, decay=self.decay)

    def codebooks(self) -> tuple[Codebook, ...]:
        return (self.codebook,)

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        yield self.codebook, self.codebook.project(real_rows(self.checked(z_e, mask), mask))

    def prepared(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """What is quantized, with a codebook that has started from it at the latest."""
        z_e = self.codebook.project(self.checked(z_e, mask))
        if self.learns and not self.codebook.is_initialized:
            self.codebook.initialize_from_batch(z_e, mask, decay=self.decay)
        if self.learns:
            self.codebook.agree_on_seed()
        return z_e

    def chosen(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """The entry of each prepared vector, by the rule of training or of evaluation.

        Returns:
            Indices, 0 at padding. (...) int64
        """
        if self.training:
            indices = of_pass(lambda: self._assigned(z_e, mask))
        else:
            indices = self.codebook.nearest(z_e)
        return indices if mask is None else indices.masked_fill(~mask, 0)

    @torch.no_grad()
    def _assigned(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """The entry of each prepared vector by the rule of training. (...) int64"""
        if isinstance(self.assignment, Nearest):
            return self.codebook.nearest(z_e)
        rows = z_e.detach().reshape(-1, self.dim)
        indices = self.assignment(self.codebook, rows, real_positions(z_e, mask))
        return indices.view(z_e.shape[:-1])

    def table_of_pass(self) -> Tensor:
        """What a pass looks its entries up in. (K, D)"""
        return self.codebook.table_of_pass() if self.training else self.codebook.table

    def follow(self, z_e: Tensor, indices: Tensor, errors: Tensor, mask: Tensor | None) -> None:
        """In training, collects who chose what, and commits unless told not to.

        Args:
            z_e: What was quantized. (..., D)
            indices: The entry of each. (...) int64
            errors: Mean squared error of each. (...)
            mask: True where a position is real. (...) bool
        """
        if not self.learns:
            return
        if self.revive:
            # What no backward pass keeps, the caller may write over before the commit.
            safe = self.commit_in_forward or z_e.requires_grad
            self.codebook.nominate(z_e if safe else z_e.clone(), errors, mask)
        self.codebook.collect(z_e.detach(), indices, mask)
        if self.commit_in_forward:
            self.commit()


def own_codebook(
    codebook: Codebook | None,
    codebook_size: int,
    dim: int,
    metric: Metric = "euclidean",
    start: Start = "kmeans",
    kind: type[Codebook] = Codebook,
) -> Codebook:
    """A codebook that is shared, if it is what was asked for, or a new one."""
    if codebook is None:
        return kind(codebook_size, dim, metric=metric, start=start)
    if not isinstance(codebook, kind):
        raise TypeError(f"codebook is a {type(codebook).__name__}; give a {kind.__name__}")
    codebook.check_shape(codebook_size, dim)
    if metric not in ("euclidean", codebook.metric):
        raise ValueError(f"codebook has metric {codebook.metric!r}; make it with {metric!r}")
    if start not in ("kmeans", codebook.start):
        raise ValueError(f"codebook has start {codebook.start!r}; make it with {start!r}")
    return codebook


def at_least_zero(weight: float, name: str = "commitment") -> float:
    """``weight`` itself; raises ValueError where its loss would be made larger."""
    if not 0 <= numeric(weight, name) < float("inf"):
        raise ValueError(f"{name} is {weight}; give a number of at least 0")
    return weight


def above_zero(value: float, name: str) -> float:
    """``value`` itself; raises ValueError unless it is greater than 0, and may be divided by."""
    if not SMALLEST <= numeric(value, name) < float("inf"):
        raise ValueError(f"{name} is {value}; give a number greater than 0")
    return value


def checked_assignment(assignment: Assignment | None) -> Assignment:
    """``assignment`` itself, ``Nearest()`` for none; raises TypeError where it is no rule."""
    if assignment is not None and (isinstance(assignment, type) or not callable(assignment)):
        raise TypeError(f"assignment is {assignment!r}; give Nearest(), Sampled() or Balanced()")
    return assignment or Nearest()


def checked_gradient(gradient: Gradient, *, without: str | None = None) -> Gradient:
    """``gradient`` itself, if there is such a one and it makes sense.

    Args:
        gradient: A name of GRADIENTS.
        without: Why "directional" makes no sense; None where it does.
    """
    if gradient not in list(GRADIENTS):
        raise ValueError(f"gradient is {gradient!r}; give one of {', '.join(GRADIENTS)}")
    if gradient == "directional" and without is not None:
        raise ValueError(f"gradient is 'directional', but {without}; give another")
    return gradient
