"""Product quantization: parts of a vector, each with a code of its own."""

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit import random
from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, Quantizer, num_real
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.composite import (
    CompositeQuantizer,
    all_coded,
    dims,
    refuse_grid_readers,
    refuse_some_shared,
    summed_terms,
)
from vqkit.quantizers.ema import EMAConfig
from vqkit.schema import STRICT

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ProductConfig:
    """Equal parts of each vector, quantized one by one."""

    type: Literal["product"] = "product"
    quantizer: Annotated[
        "QuantizerConfig", Field(description="What quantizes each part; any quantizer.")
    ] = EMAConfig()
    parts: Annotated[int, Field(ge=1, description="Number of parts; it divides the length.")] = 2
    shared: Annotated[
        bool, Field(description="Whether all parts have one codebook, as heads with shared codes.")
    ] = False

    def build(self, dim: int) -> "Product":
        """The quantizer for vectors of length ``dim``."""
        if dim % self.parts:
            raise ValueError(f"{self.parts} parts do not divide vectors of length {dim} equally")
        num = 1 if self.shared else self.parts
        made = [self.quantizer.build(dim // self.parts) for _ in range(num)]
        return Product(made * (self.parts // num))


class Product(CompositeQuantizer):
    """Cuts each vector into parts and quantizes them one by one.

    Product Quantization for Nearest Neighbor Search, section II-B,
    https://doi.org/10.1109/TPAMI.2010.57. With the same quantizer for all parts they are heads
    that share a codebook; parts that are residual quantizers make a grouped residual quantizer.

    Args:
        quantizers: One for each part, for vectors of that part's length. All different, or the
            same one for all.
    """

    structure = "product"

    def __init__(self, quantizers: Sequence[Quantizer]) -> None:
        dim = sum(dims(quantizers))
        refuse_grid_readers(quantizers)
        refuse_some_shared(quantizers, "parts")
        super().__init__(dim, quantizers)

    @property
    def is_shared(self) -> bool:
        """Whether one quantizer serves several parts."""
        return len(self.quantizers) < len(self.parts)

    @property
    def residual_scale(self) -> float | Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of the parts, coordinate by coordinate where they differ from 1. (D,)"""
        scales = [part.residual_scale for part in self.parts]
        if all(isinstance(scale, float) and scale == 1 for scale in scales):
            return 1.0
        pairs = zip(self.parts, scales, strict=True)
        return torch.cat([torch.as_tensor(scale).expand(part.dim) for part, scale in pairs])

    def squash(self, z_e: Tensor) -> Tensor:
        cut = zip(self.parts, self._cut(z_e), strict=True)
        return torch.cat([part.squash(vectors) for part, vectors in cut], -1)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.checked(z_e, mask)
        self.start(z_e, mask)
        if self.is_shared:
            out = self.parts[0](self._heads(z_e), self._for_heads(mask))
            z_q, indices = out.z_q.flatten(-2), out.indices.flatten(-2)
            outputs = [out]
        else:
            cut = zip(self.parts, self._cut(z_e), strict=True)
            outputs = [part(vectors, mask) for part, vectors in cut]
            z_q = torch.cat([out.z_q for out in outputs], -1)
            indices = torch.cat([out.indices for out in outputs], -1)
        self.finish()
        coded = None
        if any(out.coded is not None for out in outputs):
            coded = torch.cat([some.view(*z_e.shape[:-1], -1) for some in all_coded(outputs)], -1)
        return Quantized(
            z_q=z_q,
            indices=indices,
            objective=Mean(self._weighted(outputs), num_real(z_e, mask)),
            terms=summed_terms(outputs, self._lengths(outputs)),
            coded=coded,
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        z_e = self.checked(z_e, mask)
        if self.is_shared:
            return self.parts[0].encode(self._heads(z_e), self._for_heads(mask)).flatten(-2)
        cut = zip(self.parts, self._cut(z_e), strict=True)
        return torch.cat([part.encode(vectors, mask) for part, vectors in cut], -1)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        per_part = [len(part.codebook_sizes) for part in self.parts]
        cut = zip(self.parts, indices.split(per_part, -1), strict=True)
        return torch.cat([part.decode(some) for part, some in cut], -1)

    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        if self.is_shared:
            heads, real = self._heads(z_e), self._for_heads(mask)
            self.parts[0].initialize(heads, real, seed=seed, keep_started=keep_started)
            return
        for number, (part, vectors) in enumerate(zip(self.parts, self._cut(z_e), strict=True)):
            own = random.hash_int(seed, number)
            part.initialize(vectors, mask, seed=own, keep_started=keep_started)

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        for part, vectors in zip(self.parts, self._cut(self.checked(z_e, mask)), strict=True):
            yield from part.seen(vectors, mask)

    def _cut(self, z_e: Tensor) -> tuple[Tensor, ...]:
        """The parts of each vector. Each (..., D of the part)"""
        return z_e.split([part.dim for part in self.parts], -1)

    def _heads(self, z_e: Tensor) -> Tensor:
        """Vectors (..., D) as heads. (..., parts, D / parts)"""
        return z_e.unflatten(-1, (len(self.parts), -1))

    def _for_heads(self, mask: Tensor | None) -> Tensor | None:
        """A mask (...) for every head. (..., parts)"""
        return None if mask is None else mask.unsqueeze(-1).expand(*mask.shape, len(self.parts))

    def _lengths(self, outputs: Sequence[Quantized]) -> list[int]:
        """How long the vectors of each output are, in the largest unit that divides all."""
        unit = math.gcd(*(part.dim for part in self.parts))
        return [part.dim // unit for part in self.parts[: len(outputs)]]

    def _weighted(self, outputs: Sequence[Quantized]) -> Tensor:
        """The sum over positions of the parts' objectives, by their share of the coordinates."""
        if self.is_shared:
            return outputs[0].objective.total / len(self.parts)
        pairs = zip(self.parts, outputs, strict=True)
        totals = [part.dim / self.dim * out.objective.total for part, out in pairs]
        return torch.stack(totals).sum()
