"""Vector quantization with a codebook trained by gradient."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, Quantizer, mask_out, squared_errors
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.gradients import straight_through
from vqkit.quantizers.revival import DEAD_AFTER
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VQConfig:
    """Nearest entry of a codebook trained by gradient."""

    type: Literal["vq"] = "vq"
    codebook_size: Annotated[int, Field(ge=2)] = 512
    """Number of entries K."""
    commitment: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.25
    """Weight of the loss that pulls the encoder toward its entry."""
    revive: bool = True
    """Whether entries that nobody uses are replaced by vectors that fit badly."""
    dead_after: Annotated[float, Field(gt=0, allow_inf_nan=False)] = DEAD_AFTER
    """Nobody uses an entry when it had no hit while uniform use would have given it so many. With
    more, the error is smaller and use less even."""

    def build(self, dim: int) -> "VectorQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return VectorQuantizer(
            dim,
            self.codebook_size,
            commitment=self.commitment,
            revive=self.revive,
            dead_after=self.dead_after,
        )


class VectorQuantizer(Quantizer):
    """Replaces each vector by its nearest entry and pulls the two together by gradient.

    Neural Discrete Representation Learning, equation 3, https://arxiv.org/abs/1711.00937; squared
    errors are means over the coordinates, where the paper has sums.

    Args:
        dim: Length D of each vector.
        codebook_size: Number of entries K.
        commitment: Weight of the loss that pulls the encoder toward its entry.
        revive: Whether entries that nobody uses are replaced by vectors that fit badly.
        dead_after: Nobody uses an entry when it had no hit while uniform use would have given it
            so many.
        commit_in_forward: Whether each training forward ends with ``commit``. Turn it off, and
            call ``commit`` once per optimizer step, when a step has several forward passes
            (accumulation, activation checkpointing) or the codebook is shared.
        codebook: Entries shared with another quantizer; its own when None.
    """

    def __init__(
        self,
        dim: int,
        codebook_size: int,
        *,
        commitment: float = 0.25,
        revive: bool = True,
        dead_after: float = DEAD_AFTER,
        commit_in_forward: bool = True,
        codebook: Codebook | None = None,
    ) -> None:
        super().__init__(dim)
        self.codebook = codebook or Codebook(codebook_size, dim)
        self.codebook.check_shape(codebook_size, dim)
        self.codebook.claim("gradients")
        self.commitment = at_least_zero(commitment)
        self.revive = revive
        self.dead_after = above_zero(dead_after)
        self.commit_in_forward = commit_in_forward

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (self.codebook.size,)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = mask_out(self.checked(z_e), mask)
        if self.training and not self.codebook.is_initialized:
            self.codebook.initialize_from_batch(z_e, mask)
        indices = self.encode(z_e, mask)
        z_q = self.decode(indices)
        errors = squared_errors(z_q, z_e.detach())
        codebook = Mean.over(errors, mask)
        commitment = Mean.over(squared_errors(z_e, z_q.detach()), mask)
        if self.training:
            self.codebook.collect(z_e, indices.squeeze(-1), mask)
            if self.revive:
                self.codebook.nominate(z_e, errors, mask)
            if self.commit_in_forward:
                self.commit()
        return Quantized(
            z_q=straight_through(z_e, z_q),
            indices=indices,
            objective=Mean(codebook.total + self.commitment * commitment.total, codebook.count),
            terms={"codebook": codebook, "commitment": commitment},
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return mask_out(self.codebook.nearest(self.checked(z_e)).unsqueeze(-1), mask)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self.codebook.lookup(indices.squeeze(-1))

    def commit(self) -> None:
        """Follows the use of the entries since the last commit, and revives dead ones."""
        self.codebook.commit(decay=None)
        if self.revive:
            self.codebook.revive(None, self.dead_after)

    def initialize(self, z_e: Tensor, *, seed: int) -> None:
        self.codebook.initialize(z_e, seed=seed)

    def codebooks(self) -> tuple[Codebook, ...]:
        return (self.codebook,)


def at_least_zero(commitment: float) -> float:
    """``commitment`` itself; raises ValueError where it would push the encoder away."""
    if not 0 <= commitment < float("inf"):
        raise ValueError(f"commitment is {commitment}; give a number of at least 0")
    return commitment


def above_zero(dead_after: float) -> float:
    """``dead_after`` itself; raises ValueError where entries in use would count as dead."""
    if not 0 < dead_after < float("inf"):
        raise ValueError(f"dead_after is {dead_after}; give a number greater than 0")
    return dead_after
