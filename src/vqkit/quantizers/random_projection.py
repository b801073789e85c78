"""The random-projection quantizer: targets for self-supervised learning, nothing is learned."""

from collections.abc import Callable
from typing import Annotated, Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, Quantizer, mask_out, num_real
from vqkit.quantizers.checks import whole
from vqkit.quantizers.search import nearest
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RandomProjectionConfig:
    """Nearest of random entries after a random projection; nothing is learned."""

    type: Literal["random-projection"] = "random-projection"
    codebook_size: Annotated[int, Field(ge=2)] = 8192
    """Number of entries K."""
    entry_dim: Annotated[int, Field(ge=1)] = 16
    """Length of the projected vectors."""

    def build(self, dim: int) -> "RandomProjectionQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return RandomProjectionQuantizer(dim, self.codebook_size, entry_dim=self.entry_dim)


class RandomProjectionQuantizer(Quantizer):
    """The nearest of random entries to a random projection, both of length 1.

    Self-supervised Learning with Random-projection Quantizer for Speech Recognition, equation 1,
    https://arxiv.org/abs/2202.01855. Its codes are targets to predict; ``decode`` gives the
    shortest vector whose projection is the entry, which restores little of what was coded. Nothing
    is normalised in front: give vectors whose coordinates have mean 0 and variance 1 over the data,
    as the paper does, or a few entries get all of them.

    Args:
        dim: Length D of each vector.
        codebook_size: Number of entries K.
        entry_dim: Length of the projected vectors, and of the entries.

    Attributes:
        projection: Drawn at construction (Xavier), never trained. (D, entry_dim)
        inverse: Its pseudoinverse, which follows it and is not saved. (entry_dim, D) float64
        entries: Drawn at construction, of length 1, never trained. (K, entry_dim)
    """

    projection: Tensor
    entries: Tensor
    inverse: Tensor

    def __init__(self, dim: int, codebook_size: int, *, entry_dim: int = 16) -> None:
        super().__init__(dim)
        codebook_size = whole(codebook_size, "codebook_size", 2)
        entry_dim = whole(entry_dim, "entry_dim", 1)
        if entry_dim > self.dim:
            raise ValueError(
                f"entry_dim is {entry_dim}, and vectors have length {dim}; give entry_dim of at "
                "most that"
            )
        projection = torch.nn.init.xavier_uniform_(torch.empty(dim, entry_dim))
        self.register_buffer("projection", projection)
        self.register_buffer("entries", F.normalize(torch.randn(codebook_size, entry_dim)))
        self.register_buffer("inverse", inverse_of(projection), persistent=False)
        self.register_load_state_dict_post_hook(_follow_projection)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (len(self.entries),)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.checked(z_e, mask)
        indices = self._indices(z_e, mask)
        z_q = self._entries(indices)
        objective = Mean(z_q.new_zeros(()), num_real(z_e, mask))
        return Quantized(self.passed(z_e, z_q, mask), indices, objective, {})

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._indices(self.checked(z_e, mask), mask)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self._entries(indices)

    def _indices(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """The nearest entry of each checked vector. (..., 1) int64"""
        rows = z_e.detach().to(self.projection.dtype)
        # float64, which autocast and TF32 leave alone: rounding would choose other entries.
        projected = F.normalize(rows.double() @ self.projection.double(), dim=-1)
        return mask_out(nearest(projected, self.entries).unsqueeze(-1), mask)

    def _entries(self, indices: Tensor) -> Tensor:
        """What indices stand for, unchecked: a check waits for the device. (..., 1) -> (..., D)"""
        chosen = self.entries[indices.squeeze(-1)]
        return (chosen.double() @ self.inverse).to(chosen.dtype)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        before = self.projection.dtype
        super()._apply(fn, recurse)
        if self.inverse.dtype != torch.float64 or before != self.projection.dtype:
            _follow_projection(self)
        return self


def inverse_of(projection: Tensor) -> Tensor:
    """The pseudoinverse, the same wherever the projection is and whatever its precision.

    Args:
        projection: (D, entry_dim)

    Returns:
        (entry_dim, D) float64
    """
    if projection.is_meta:
        return projection.T.double()
    return torch.linalg.pinv(projection.detach().cpu().double()).to(projection.device)


def _follow_projection(layer: nn.Module, _: object = None) -> None:
    """Makes the inverse of another projection: made when it is used, a GPU would wait."""
    assert isinstance(layer, RandomProjectionQuantizer)
    layer.inverse = inverse_of(layer.projection)
