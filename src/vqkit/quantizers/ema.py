"""Vector quantization with a codebook of running averages."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, Quantizer, mask_out, squared_errors
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.gradients import straight_through
from vqkit.quantizers.revival import DEAD_AFTER
from vqkit.quantizers.vector import above_zero, at_least_zero
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EMAConfig:
    """Nearest entry of a codebook that averages the vectors it replaced."""

    type: Literal["ema"] = "ema"
    codebook_size: Annotated[int, Field(ge=2)] = 512
    """Number of entries K."""
    commitment: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.25
    """Weight of the loss that pulls the encoder toward its entry."""
    decay: Annotated[float, Field(ge=0, lt=1)] = 0.99
    """Weight of the past in the running averages."""
    decay_warmup: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0
    """How slowly the decay rises to its value: in step t, counted from 0, it is at most
    (1 + t) / (decay_warmup + t), so that early averages forget an encoder that still moves fast."""
    revive: bool = True
    """Whether entries that nobody uses are replaced by vectors that fit badly."""
    dead_after: Annotated[float, Field(gt=0, allow_inf_nan=False)] = DEAD_AFTER
    """Nobody uses an entry when it had no hit while uniform use would have given it so many. With
    more, the error is smaller and use less even."""

    def build(self, dim: int) -> "EMAVectorQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return EMAVectorQuantizer(
            dim,
            self.codebook_size,
            commitment=self.commitment,
            decay=self.decay,
            decay_warmup=self.decay_warmup,
            revive=self.revive,
            dead_after=self.dead_after,
        )


class EMAVectorQuantizer(Quantizer):
    """Replaces each vector by its nearest entry, the running average of such vectors.

    Neural Discrete Representation Learning, appendix A.1, https://arxiv.org/abs/1711.00937

    Args:
        dim: Length D of each vector.
        codebook_size: Number of entries K.
        commitment: Weight of the loss that pulls the encoder toward its entry.
        decay: Weight of the past in the running averages, at least 0 and less than 1.
        decay_warmup: How slowly it rises to its value: in step t, counted from 0, it is at most
            (1 + t) / (decay_warmup + t).
        revive: Whether entries that nobody uses are replaced by vectors that fit badly.
        dead_after: Nobody uses an entry when it had no hit while uniform use would have given it
            so many.
        commit_in_forward: Whether each training forward moves the entries. Turn it off, and call
            ``commit`` once per optimizer step, when a step has several forward passes
            (accumulation, activation checkpointing) or the codebook is shared.
        codebook: Entries shared with another quantizer; its own when None.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment: float = 0.25,
        decay: float = 0.99,
        decay_warmup: float = 0,
        revive: bool = True,
        dead_after: float = DEAD_AFTER,
        commit_in_forward: bool = True,
        codebook: Codebook | None = None,
    ) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"decay is {decay}; give a number of at least 0 and less than 1")
        if not 0 <= decay_warmup < float("inf"):
            raise ValueError(f"decay_warmup is {decay_warmup}; give a number of at least 0")
        super().__init__(dim)
        self.codebook = codebook or Codebook(codebook_size, dim)
        self.codebook.check_shape(codebook_size, dim)
        self.codebook.claim("averages")  # no optimizer may
        self.commitment = at_least_zero(commitment)
        self.decay = decay
        self.decay_warmup = decay_warmup
        self.revive = revive
        self.dead_after = above_zero(dead_after)
        self.commit_in_forward = commit_in_forward

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook.size,)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = mask_out(self.checked(z_e), mask)
        if self.training and not self.codebook.is_initialized:
            self.codebook.initialize_from_batch(z_e, mask, decay=self.decay)
        indices = self.encode(z_e, mask)
        z_q = self.decode(indices).detach()  # averages move the entries, no gradient
        errors = squared_errors(z_e, z_q)
        commitment = Mean.over(errors, mask)
        if self.training:
            self.codebook.collect(z_e, indices.squeeze(-1), mask)
            if self.revive:
                self.codebook.nominate(z_e, errors, mask)
            if self.commit_in_forward:
                self.commit()
        return Quantized(
            z_q=straight_through(z_e, z_q),
            indices=indices,
            objective=Mean(self.commitment * commitment.total, commitment.count),
            terms={"commitment": commitment},
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return mask_out(self.codebook.nearest(self.checked(z_e)).unsqueeze(-1), mask)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self.codebook.lookup(indices.squeeze(-1))

    def commit(self) -> None:
        """Moves the entries by all that was collected since the last commit."""
        decay, step = self.decay, self.codebook.step.to(self.codebook.entries.dtype)
        if self.decay_warmup > 1:
            decay = ((1 + step) / (self.decay_warmup + step)).clamp(max=self.decay)
        self.codebook.commit(decay)
        if self.revive:
            self.codebook.revive(decay, self.dead_after)

    def initialize(self, z_e: Tensor, *, seed: int) -> None:
        self.codebook.initialize(z_e, seed=seed, decay=self.decay)

    def codebooks(self) -> tuple[Codebook, ...]:
        return (self.codebook,)
