"""Multi-scale residual quantization: coarse to fine over a grid."""

import copy
import math
import operator
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Annotated, Literal, cast

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit import random
from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, Quantizer, num_real, real_rows
from vqkit.quantizers.checks import check_tensor
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.composite import all_coded, dims, summed_terms
from vqkit.quantizers.ema import EMAConfig
from vqkit.quantizers.scales import Grid, Scale
from vqkit.quantizers.stages import StagedQuantizer, summed
from vqkit.schema import STRICT

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig

Length = Annotated[int, Field(ge=1)]
Quantize = Callable[[int, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MultiScaleConfig:
    """A residual over grids from coarse to fine; images of one size."""

    type: Literal["multiscale"] = "multiscale"
    quantizer: Annotated[
        "QuantizerConfig", Field(description="What quantizes each scale; any quantizer.")
    ] = EMAConfig()
    scales: Annotated[
        tuple[Length | Annotated[tuple[Length, ...], Field(min_length=1, max_length=3)], ...],
        Field(
            min_length=1,
            description="Grids from the coarsest to that of the encoder's outputs: the side of a "
            "square each, or the lengths of 1 to 3 axes.",
        ),
    ] = (1, 2, 4, 8)
    shared: Annotated[bool, Field(description="Whether all scales have one codebook.")] = True

    def build(self, dim: int) -> "MultiScaleResidual":
        """The quantizer for vectors of length ``dim``."""
        num = 1 if self.shared else len(self.scales)
        made = [self.quantizer.build(dim) for _ in range(num)]
        return MultiScaleResidual(made * (len(self.scales) // num), self.scales)


class MultiScaleResidual(StagedQuantizer):
    """Quantizes averages over a few large cells of a grid, then over smaller ones what is left.

    Visual Autoregressive Modeling, algorithms 1 and 2, https://arxiv.org/abs/2404.02905. At each
    scale what is left is averaged over the cells of that scale's grid and quantized there; what
    was found is interpolated back, linearly (the paper: bicubic, with a convolution for each
    scale), added up, and taken away. Indices are (B, L, Q), scales coarse to fine, each in raster
    order: a prior that goes through them in order predicts scale after scale. Any number of leading
    scales decodes: ``decode(indices[:, :5])`` for grids of 1 x 1 and 2 x 2.

    A code at a coarse scale is real if any position of its cell is, and stands for the mean of
    these. Every scale's commitment pulls the encoder: the objective is the mean over scales of the
    means over their codes, and beside padding a code counts in full whose cell is real in part. The
    terms are means over all codes.

    Args:
        quantizers: One for each scale, of equal codebook sizes, for vectors of one length; the
            same one for all in the paper. Of different ones, use of an entry is counted for all
            scales together.
        scales: The grid of each, lengths of 1 to 3 axes or the side of a square, from coarse to
            fine. The last is that of the vectors.

    Attributes:
        scales: The grids.
        lengths: The number of codes of each; L is their sum.
    """

    reads_grid = True

    def __init__(
        self, quantizers: Sequence[Quantizer], scales: Sequence[int | Sequence[int]]
    ) -> None:
        grids = checked_scales(scales, len(dims(quantizers)))
        kinds = {(part.codebook_sizes, part.structure) for part in quantizers}
        if len(kinds) > 1:
            sizes = [part.codebook_sizes for part in quantizers]
            raise ValueError(
                f"quantizers have codebook sizes {sizes}; give all scales the same, as one axis "
                "of the indices holds them"
            )
        super().__init__(quantizers)
        self.structure = self.parts[0].structure
        self.scales: tuple[Grid, ...] = grids
        self.lengths = tuple(math.prod(grid) for grid in self.scales)
        self.grids = cast(
            Sequence[Scale], nn.ModuleList(Scale(grid, self.scales[-1]) for grid in self.scales)
        )

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        """Number of entries of each of the Q codebooks; the largest, where scales differ."""
        return tuple(map(max, zip(*(part.codebook_sizes for part in self.parts), strict=True)))

    def codebooks(self) -> tuple[Codebook, ...]:
        """The learned codebooks: those of all scales, or of one after another."""
        parts = self.parts[:1] if self.is_shared else self.parts
        return tuple(book for part in parts for book in part.codebooks())

    @property
    def codebook_names(self) -> tuple[str, ...]:
        return self.parts[0].codebook_names  # one axis for all scales

    def named_codebooks(self) -> dict[str, Codebook]:
        if self.is_shared:
            return self.parts[0].named_codebooks()
        pairs = ((f"scale {number}", part) for number, part in enumerate(self.parts))
        return {
            f"{scale} {name}".strip(): book
            for scale, part in pairs
            for name, book in part.named_codebooks().items()
        }

    def code_mask(self, mask: Tensor | None) -> Tensor | None:
        if mask is None:
            return None
        found = [grid.code_mask(mask) for grid in self.grids]
        return torch.cat([real.flatten(1) for real in found if real is not None], 1)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.checked(z_e, mask)
        self.start(z_e, mask)
        outputs: list[Quantized] = []

        def quantize(number: int, z: Tensor, real: Tensor | None) -> Tensor:
            outputs.append(self.parts[number](z, real))
            return outputs[number].z_q

        z = self.squashed(z_e)
        found = self._descend(z, mask, quantize)
        self.finish()
        coded = None
        if any(out.coded is not None for out in outputs):
            coded = torch.cat([some.flatten(1, -2) for some in all_coded(outputs)], 1)
        return Quantized(
            z_q=self.passed_once(z, summed(found), mask),
            indices=torch.cat([out.indices.flatten(1, -2) for out in outputs], 1),
            objective=Mean(self._weighted(outputs), num_real(z_e, mask)),
            terms=summed_terms(outputs),
            coded=coded,
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        indices: list[Tensor] = []

        def quantize(number: int, z: Tensor, real: Tensor | None) -> Tensor:
            indices.append(self.parts[number].encode(z, real))
            return self.parts[number].decode(indices[number])

        self._descend(self.squashed(self.checked(z_e, mask)), mask, quantize)
        return torch.cat([some.flatten(1, -2) for some in indices], 1)

    def decode(self, indices: Tensor) -> Tensor:
        """The vectors that indices of all scales, or of any number of leading ones, stand for.

        Args:
            indices: One integer for each codebook and code of these scales. (B, L, Q)

        Returns:
            Vectors on the full grid. (B, *grid, D)
        """
        check_tensor(indices, "indices", len(self.codebook_sizes))
        ends = list(accumulate(self.lengths))
        if indices.dim() != 3 or indices.shape[1] not in ends:
            raise ValueError(
                f"indices have shape {tuple(indices.shape)}; make them (B, L, Q) with L one of "
                f"{ends}: so many codes have 1, 2 and more scales"
            )
        self.check_indices(indices)
        num = 1 + ends.index(indices.shape[1])
        cut = indices.split(self.lengths[:num], 1)
        return summed(
            [
                grid.interpolate(part.decode(some.unflatten(1, grid.grid)))
                for grid, part, some in zip(self.grids, self.parts, cut, strict=False)
            ]
        )

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        inputs: list[tuple[Tensor, Tensor | None]] = []

        def quantize(number: int, z: Tensor, real: Tensor | None) -> Tensor:
            inputs.append((z, real))
            return self.parts[number].decode(self.parts[number].encode(z, real))

        self._descend(self.squashed(self.checked(z_e, mask)), mask, quantize)
        for part, one in zip(self.parts, inputs, strict=True):
            yield from part.seen(*one)

    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        z, first = self.squashed(z_e), self.parts[0]
        # Of one quantizer for all scales a copy starts, to see what the scales leave.
        trial = copy.deepcopy(first) if self.is_shared else None
        seen: list[Tensor] = []

        def keep(number: int, z: Tensor, real: Tensor | None) -> Tensor:
            seen.append(real_rows(z, real))
            return z

        def quantize(number: int, z: Tensor, real: Tensor | None) -> Tensor:
            seen.append(real_rows(z, real))
            part = trial or self.parts[number]
            if trial is None:
                own = random.hash_int(seed, number)
                part.initialize(seen[-1], seed=own, keep_started=keep_started)
            return part.decode(part.encode(z, real))

        own = random.hash_int(seed, 0)
        if trial is not None:  # first as if no scale made an error, then with the errors they make
            self._descend(z, mask, keep)
            trial.initialize(torch.cat(seen), seed=own, keep_started=keep_started)
            seen.clear()
        self._descend(z, mask, quantize)
        if trial is not None:
            first.initialize(torch.cat(seen), seed=own, keep_started=keep_started)

    def checked(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        """``z_e`` with zeros at masked positions, in single precision at least.

        Raises:
            ValueError: If it is not on the last of the scales' grids, or as any quantizer would.
        """
        grid = self.scales[-1]
        if z_e.shape[1:-1] != grid or z_e.dim() < 3:
            raise ValueError(
                f"z_e has shape {tuple(z_e.shape)}, the last of scales is {grid}; end the scales "
                "with the grid of z_e (B, *grid, D), and give items of one size"
            )
        return super().checked(z_e, mask)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, scales={self.scales}"

    def _descend(self, z: Tensor, mask: Tensor | None, quantize: Quantize) -> list[Tensor]:
        """The pass from coarse to fine.

        Args:
            z: Vectors. (B, *grid, D)
            mask: True where a position is real; None when all are. (B, *grid) bool
            quantize: From the number of a scale, its averages and which are real to what they
                become. (B, *scale, D), (B, *scale) -> (B, *scale, D)

        Returns:
            What each scale adds. Each (B, *grid, D)
        """
        left = z.to(torch.promote_types(z.dtype, torch.float32))
        found: list[Tensor] = []
        for number, grid in enumerate(self.grids):
            z_q = quantize(number, grid.average(left, mask), grid.code_mask(mask))
            found.append(grid.interpolate(z_q))
            left = left - found[number].detach()
        return found

    def _weighted(self, outputs: Sequence[Quantized]) -> Tensor:
        """The sum over positions of the mean over scales of their objectives. ()"""
        pairs = zip(self.lengths, outputs, strict=True)
        totals = [self.lengths[-1] / length * out.objective.total for length, out in pairs]
        return torch.stack(totals).sum() / len(totals)


def checked_scales(scales: Sequence[int | Sequence[int]], num: int) -> tuple[Grid, ...]:
    """The grids, if they grow and there are ``num``; raises an error otherwise."""
    if not isinstance(scales, Sequence):
        raise TypeError(f"scales is {scales!r}; give a list of grids, from coarse to fine")
    squares = ((grid, grid) if isinstance(grid, int) else grid for grid in scales)
    try:
        grids = tuple(tuple(operator.index(length) for length in grid) for grid in squares)
    except TypeError:
        raise TypeError(f"scales are {scales!r}; give integers, or tuples of them") from None
    if len(grids) != num:
        raise ValueError(f"there are {num} quantizers for {len(grids)} scales; give one for each")
    num_axes = {len(grid) for grid in grids}
    if not num_axes <= {1, 2, 3} or len(num_axes) > 1 or any(min(grid) < 1 for grid in grids):
        raise ValueError(f"scales are {grids}; give each the lengths of the same 1, 2 or 3 axes")
    for coarse, fine in pairwise(grids):
        if coarse == fine or any(a > b for a, b in zip(coarse, fine, strict=True)):
            raise ValueError(f"scales are {grids}; make each finer than the one before")
    return grids
