"""Binary quantization: the signs of a vector's coordinates are its code."""

from abc import abstractmethod
from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit import distributed
from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, Quantizer, mask_out, num_real, squared_errors, unit
from vqkit.quantizers.checks import truth
from vqkit.quantizers.learned import above_zero, at_least_zero
from vqkit.quantizers.passes import of_pass
from vqkit.schema import STRICT, AtLeastZero, Divisor

LONGEST = 62  # bits of an index
GROUP_BITS = 8
DECAY = 0.9  # of the running average that says which codes are rare


# Field, because a class that inherits them would lose docstrings under fields.
@dataclass(frozen=True, kw_only=True, config=STRICT)
class BinaryOptions:
    """What quantizers of signs can be told."""

    commitment: Annotated[
        AtLeastZero,
        Field(description="Weight of the loss that pulls each coordinate toward its sign."),
    ] = 0.25
    certainty: Annotated[
        AtLeastZero,
        Field(description="Weight of the loss that makes each vector's code less doubtful."),
    ] = 0.1
    diversity: Annotated[
        AtLeastZero, Field(description="Weight of the loss that spreads use over all codes.")
    ] = 1.0

    def options(self) -> dict[str, Any]:
        """The weights, as the layer names them."""
        weights = {"commitment": self.commitment, "certainty": self.certainty}
        return {**weights, "diversity": self.diversity}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LFQConfig(BinaryOptions):
    """The signs of the coordinates; K = 2^D."""

    type: Literal["lfq"] = "lfq"
    temperature: Annotated[
        Divisor, Field(description="How far from 0 a coordinate must be for its sign to be sure.")
    ] = 1.0

    def build(self, dim: int) -> "LookupFreeQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return LookupFreeQuantizer(dim, **self.options(), temperature=self.temperature)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BSQConfig(BinaryOptions):
    """The signs of the coordinates of vectors of length 1; K = 2^D."""

    type: Literal["bsq"] = "bsq"
    diversity: Annotated[
        AtLeastZero, Field(description="Weight of the loss that spreads use over all codes.")
    ] = 0.1
    temperature: Annotated[
        Divisor, Field(description="How far from 0 a coordinate must be for its sign to be sure.")
    ] = 0.1

    def build(self, dim: int) -> "BinarySphericalQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return BinarySphericalQuantizer(dim, **self.options(), temperature=self.temperature)


class BinaryQuantizer(Quantizer):
    """What quantizers of signs share: the code, and the entropy of codes without a codebook.

    The probability that a coordinate x is coded as 1 is sigmoid(2 x c / temperature), c being the
    size of a coded coordinate, so a code's probability is a product over bits. A vector's entropy
    is then the sum over its bits, exactly. That of all vectors together is taken over groups of
    GROUP_BITS bits, each with its 2^GROUP_BITS probabilities: with more bits, the sum over groups
    bounds it from above.

    Args:
        dim: Length D of each vector, the number of bits.
        commitment: Weight of the loss that pulls each coordinate toward its sign.
        certainty: Weight of the entropy of each vector's code, per bit.
        diversity: Weight of the entropy of all codes, per bit, which is made large; the kind's
            usual one when None. Its gradient is that of the cross-entropy with a running average
            of their probabilities, so that micro-batches and ranks add up.
        temperature: How far from 0 a coordinate must be for its sign to be sure; the kind's
            usual one when None.
        commit_in_forward: Whether each training forward ends with ``commit``.
    """

    usual_temperature = 1.0
    usual_diversity = 1.0

    def __init__(
        self,
        dim: int,
        *,
        commitment: float = 0.25,
        certainty: float = 0.1,
        diversity: float | None = None,
        temperature: float | None = None,
        commit_in_forward: bool = True,
    ) -> None:
        super().__init__(dim)
        temperature = self.usual_temperature if temperature is None else temperature
        diversity = self.usual_diversity if diversity is None else diversity
        if dim > LONGEST:
            raise ValueError(
                f"dim is {dim}; an index has room for 1 to {LONGEST} bits: project the vectors "
                "(Projected), or cut them into parts (Product)"
            )
        self.commitment = at_least_zero(commitment)
        self.certainty = at_least_zero(certainty, "certainty")
        self.diversity = at_least_zero(diversity, "diversity")
        self.temperature = above_zero(temperature, "temperature")
        self.commit_in_forward = truth(commit_in_forward, "commit_in_forward")
        self.groups = [min(GROUP_BITS, dim - first) for first in range(0, dim, GROUP_BITS)]
        # One after another, the probabilities of all groups; even use at first.
        even = [torch.full((2**bits,), 2.0**-bits) for bits in self.groups]
        self.register_buffer("average_probabilities", torch.cat(even))
        self.register_buffer("pending", torch.zeros_like(torch.cat(even)), persistent=False)
        self.register_buffer("pending_count", torch.zeros(()), persistent=False)

    average_probabilities: Tensor
    pending: Tensor
    pending_count: Tensor

    @property
    @abstractmethod
    def size(self) -> float:
        """The absolute value of each coordinate of a code."""

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (2**self.dim,)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.projected(self.checked(z_e, mask))
        indices = self._indices(z_e, mask)
        z_q = self._entries(indices)
        commitment = Mean.over(squared_errors(z_e, z_q), mask)
        with torch.autocast(z_e.device.type, enabled=False):
            certainty, diversity = self._entropies(z_e, mask)
        if self.learns and self.commit_in_forward:
            self.commit()
        total = self.commitment * commitment.total + self.certainty * certainty.total
        return Quantized(
            z_q=self.passed(z_e, z_q, mask),
            indices=indices,
            objective=Mean(total - self.diversity * diversity.total, num_real(z_e, mask)),
            terms={"commitment": commitment, "entropy": certainty, "diversity": diversity},
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return self._indices(self.projected(self.checked(z_e, mask)), mask)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        return self._entries(indices)

    def _entries(self, indices: Tensor) -> Tensor:
        """What indices stand for, unchecked: a check waits for the device. (..., 1) -> (..., D)"""
        places = torch.arange(self.dim, device=indices.device)
        bits = ((indices >> places) & 1).to(self.average_probabilities.dtype)
        return bits.mul_(2).sub_(1).mul_(self.size)

    def commit(self) -> None:
        """Takes the codes of all forwards since the last commit into the running average."""
        count = distributed.all_reduce(self.pending_count)
        new = distributed.all_reduce(self.pending) / count.clamp(min=1)
        # One overflow in mixed precision, a step that the optimizer skips, must not stay for good.
        weight = (1 - DECAY) * ((count > 0) & new.isfinite().all())
        self.average_probabilities.lerp_(new.nan_to_num(), weight.to(new.dtype))
        self.pending.zero_()
        self.pending_count.zero_()

    def projected(self, z_e: Tensor) -> Tensor:
        """The vectors whose signs are the code, float32 at least. (..., D)"""
        return z_e.to(torch.promote_types(z_e.dtype, torch.float32))

    def _indices(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """The signs as bits, the first coordinate counting least. (..., 1) int64"""
        places = torch.arange(self.dim, device=z_e.device)
        return mask_out(((z_e > 0).long() << places).sum(-1, keepdim=True), mask)

    def _entropies(self, z_e: Tensor, mask: Tensor | None) -> tuple[Mean, Mean]:
        """Entropy of each vector's code, and cross-entropy of all codes with their average.

        Nats per bit. In training the probabilities are collected for the average.
        """
        logits = z_e * (2 * self.size / self.temperature)
        own = F.binary_cross_entropy_with_logits(logits, logits.sigmoid(), reduction="none")
        certainty = Mean.over(own.sum(-1) / self.dim, mask)
        real = torch.ones_like(own[..., 0]) if mask is None else mask.to(own.dtype)
        cross, probabilities = torch.zeros_like(real), []
        average = self.average_probabilities
        average = of_pass(lambda: average) if self.training else average
        prices = -average.clamp(min=1e-20).log().to(own.dtype)
        sizes = [2**bits for bits in self.groups]
        for bits, some in zip(logits.split(self.groups, -1), prices.split(sizes), strict=True):
            low, high = joint_probabilities(bits)
            table = some.view(high.shape[-1], low.shape[-1])
            cross = cross + ((high @ table) * low).sum(-1)
            weighed = (high.detach() * real.unsqueeze(-1)).reshape(-1, high.shape[-1])
            rows = low.detach().reshape(-1, low.shape[-1])
            probabilities.append((weighed.T @ rows).flatten())
        if self.learns:
            self.pending += torch.cat(probabilities).to(self.pending.dtype)
            self.pending_count += real.sum()
        return certainty, Mean.over(cross / self.dim, mask)


class LookupFreeQuantizer(BinaryQuantizer):
    """Codes each vector by the signs of its coordinates: entries of -1 and 1, never written down.

    Language Model Beats Diffusion, section 3.1, https://arxiv.org/abs/2310.05737. Each stage of a
    residual quantizer codes with signs of half the size.
    """

    residual_scale = 0.5

    @property
    def size(self) -> float:
        return 1.0


class BinarySphericalQuantizer(BinaryQuantizer):
    """Codes each vector by the signs of its coordinates, on the sphere of radius 1.

    Image and Video Tokenization with Binary Spherical Quantization, section 4.1,
    https://arxiv.org/abs/2406.07548: the error of a vector has a bound, and none can grow.
    """

    usual_temperature = 0.1
    usual_diversity = 0.1

    @property
    def size(self) -> float:
        return self.dim**-0.5

    def projected(self, z_e: Tensor) -> Tensor:
        return unit(z_e)


def joint_probabilities(logits: Tensor) -> tuple[Tensor, Tensor]:
    """The probability of every combination of bits, as two factors.

    The bits are independent, so the probability of combination i + 2^L j is that of i in the lower
    half of the bits times that of j in the upper: 2^L + 2^H numbers for each vector instead of
    their product.

    Args:
        logits: Of each bit being 1, the first bit counting least. (..., B)

    Returns:
        Those of the lower half, and of the upper. (..., 2^L), (..., 2^H)
    """
    num = logits.shape[-1] // 2
    low, high = logits.split([logits.shape[-1] - num, num], -1)
    return combinations(low), combinations(high)


def combinations(logits: Tensor) -> Tensor:
    """The probability of every combination of a few bits. (..., B) -> (..., 2^B)"""
    joint = logits.new_ones(*logits.shape[:-1], 1)
    for one in logits.sigmoid().unbind(-1):
        one = one.unsqueeze(-1)
        joint = torch.cat([joint * (1 - one), joint * one], -1)
    return joint
