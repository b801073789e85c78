"""Quantization in fewer, or other, dimensions."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.quantizers.base import Quantized, Quantizer, detached_at_padding
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.composite import WrappedQuantizer
from vqkit.quantizers.ema import EMAConfig
from vqkit.schema import STRICT

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProjectedConfig:
    """Any quantizer behind a linear map to another number of dimensions."""

    type: Literal["projected"] = "projected"
    quantizer: Annotated[
        "QuantizerConfig", Field(description="Any quantizer, for the projected vectors.")
    ] = EMAConfig()
    dim: Annotated[int, Field(ge=1, description="Length of the projected vectors.")] = 8

    def build(self, dim: int) -> "Projected":
        """The quantizer for vectors of length ``dim``."""
        return Projected(self.quantizer.build(self.dim), dim)


class Projected(WrappedQuantizer):
    """Quantizes linear projections of the vectors, and projects back.

    Vector-quantized Image Modeling with Improved VQGAN, section 3.2,
    https://arxiv.org/abs/2110.04627: lookup in few dimensions uses more entries.

    Args:
        quantizer: Any quantizer.
        dim: Length D of the vectors outside.
    """

    def __init__(self, quantizer: Quantizer, dim: int) -> None:
        super().__init__(dim, quantizer)
        self.down = nn.Linear(dim, quantizer.dim)
        self.up = nn.Linear(quantizer.dim, dim)
        with torch.no_grad():  # at first, back is the best linear way back
            nn.init.orthogonal_(self.down.weight)
            self.up.weight.copy_(self.down.weight.T)
            self.down.bias.zero_()
            self.up.bias.zero_()

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        out = self.quantizer(self._inside(z_e, mask), mask)
        self.finish()
        z_q = detached_at_padding(self._outside(out.z_q), mask)
        return Quantized(z_q, out.indices, out.objective, out.terms, out.hidden, out.coded)

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.quantizer.encode(self._inside(z_e, mask), mask)

    def decode(self, indices: Tensor) -> Tensor:
        return self._outside(self.quantizer.decode(indices))

    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        z = self._inside(z_e, mask)
        self.quantizer.initialize(z, mask, seed=seed, keep_started=keep_started)

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        return self.quantizer.seen(self._inside(z_e, mask), mask)

    def _inside(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """What is quantized. (..., D) -> (..., D inside)"""
        rows = self.checked(z_e, mask).to(self.down.weight.dtype)
        with torch.autocast(rows.device.type, enabled=False):  # rounded vectors have other codes
            return self.down(rows)

    def _outside(self, z_q: Tensor) -> Tensor:
        """The vectors that leave. (..., D inside) -> (..., D)"""
        with torch.autocast(z_q.device.type, enabled=False):
            return self.up(z_q.to(self.up.weight.dtype))
