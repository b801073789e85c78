"""Vectors of one length or one spread, before any quantizer."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit.quantizers.base import Quantized, Quantizer, unit
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.composite import WrappedQuantizer, dims
from vqkit.quantizers.ema import EMAConfig
from vqkit.schema import STRICT

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig

How = Literal["layernorm", "l2"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NormalizedConfig:
    """Any quantizer behind a normalisation of the encoder's outputs."""

    type: Literal["normalized"] = "normalized"
    # Field, because a class that is rebuilt loses docstrings under fields before Python 3.13.
    quantizer: Annotated[
        "QuantizerConfig", Field(description="Any quantizer, for the normalised vectors.")
    ] = EMAConfig()
    how: Annotated[
        How,
        Field(
            description="layernorm: each vector has mean 0 and variance 1 over its coordinates; "
            "l2: each vector has length 1."
        ),
    ] = "layernorm"

    def build(self, dim: int) -> "Normalized":
        """The quantizer for vectors of length ``dim``."""
        return Normalized(self.quantizer.build(dim), self.how)


class Normalized(WrappedQuantizer):
    """Quantizes normalised vectors: encoder outputs cannot grow, and none is far from all entries.

    Lookup, losses, statistics and the value that leaves are all those of the normalised vectors;
    the gradient passes through the normalisation. LayerNorm: https://arxiv.org/abs/1607.06450;
    vectors of length 1: https://arxiv.org/abs/2110.04627, section 3.2.

    Args:
        quantizer: Any quantizer.
        how: "layernorm" for mean 0 and variance 1 over the coordinates, "l2" for length 1.
    """

    def __init__(self, quantizer: Quantizer, how: How = "layernorm") -> None:
        if how not in ("layernorm", "l2"):
            raise ValueError(f"how is {how!r}; give 'layernorm' or 'l2'")
        (dim,) = dims([quantizer])
        if how == "layernorm" and dim < 2:
            raise ValueError("dim is 1; layernorm needs vectors of at least 2 coordinates")
        super().__init__(dim, quantizer)
        self.how = how

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        out = self.quantizer(self.normalize(self.checked(z_e, mask)), mask)
        self.finish()
        return out

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.quantizer.encode(self.normalize(self.checked(z_e, mask)), mask)

    def decode(self, indices: Tensor) -> Tensor:
        return self.quantizer.decode(indices)

    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        z = self.normalize(z_e)
        self.quantizer.initialize(z, mask, seed=seed, keep_started=keep_started)

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        return self.quantizer.seen(self.normalize(self.checked(z_e, mask)), mask)

    def normalize(self, z_e: Tensor) -> Tensor:
        """The vectors that are quantized.

        Args:
            z_e: Encoder output. (..., D)

        Returns:
            Normalised vectors, float32 where ``z_e`` has half precision. (..., D)
        """
        if self.how == "l2":
            return unit(z_e)
        z_e = z_e.to(torch.promote_types(z_e.dtype, torch.float32))
        return F.layer_norm(z_e, (self.dim,))
