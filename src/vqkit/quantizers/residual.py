"""Residual quantization: each stage codes what the stages before left."""

import copy
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit import random
from vqkit.means import Mean
from vqkit.quantizers.assignment import numbers
from vqkit.quantizers.base import (
    Quantized,
    Quantizer,
    mask_out,
    num_real,
    real_rows,
    squared_errors,
)
from vqkit.quantizers.beam import beam_search
from vqkit.quantizers.checks import check_tensor, numeric, whole
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.composite import all_coded, dims, summed_terms
from vqkit.quantizers.ema import EMAConfig
from vqkit.quantizers.learned import LearnedQuantizer
from vqkit.quantizers.passes import of_pass
from vqkit.quantizers.seeds import agree_on_seed
from vqkit.quantizers.stages import StagedQuantizer, summed
from vqkit.schema import STRICT

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ResidualConfig:
    """Stages that each quantize what the stages before left."""

    type: Literal["residual"] = "residual"
    quantizer: Annotated[
        "QuantizerConfig", Field(description="What each stage is; any quantizer.")
    ] = EMAConfig()
    stages: Annotated[int, Field(ge=1, description="Number of stages Q.")] = 4
    shared: Annotated[bool, Field(description="Whether all stages have one codebook.")] = False
    dropout: Annotated[
        float,
        Field(
            ge=0,
            le=1,
            description="Share of the items of a training batch that are coded by a random number "
            "of stages, so that any number of them decodes well.",
        ),
    ] = 0.0
    beams: Annotated[
        int,
        Field(
            ge=1,
            description="How many sums of entries encoding follows at a time. More find a smaller "
            "error and take longer.",
        ),
    ] = 1

    def build(self, dim: int) -> "Residual":
        """The quantizer for vectors of length ``dim``."""
        num = 1 if self.shared else self.stages
        made = [self.quantizer.build(dim) for _ in range(num)]
        return Residual(made * (self.stages // num), dropout=self.dropout, beams=self.beams)


class Residual(StagedQuantizer):
    """Quantizes vectors, then what is left, and so on; a vector is the sum of its entries.

    SoundStream, section III-C and algorithm 1, https://arxiv.org/abs/2107.03312. Any number of
    leading stages decodes: ``decode(indices[..., :2])``. Every stage's commitment pulls the
    encoder, and the decoder's gradient reaches it once, not once for each stage.

    Args:
        quantizers: The stages, for vectors of one length. The same one may be several stages.
        dropout: Share of the items (of axis 0) of a training batch that are coded by a random
            number of stages, each number below all being as likely. ``z_q`` then is the sum of
            these; the other indices are 0 and have no part in losses and statistics.
        beams: How many sums of entries ``encode`` follows at a time; with 1 each stage takes the
            nearest entry. More find sums with less error and take so many times as long; training
            takes the nearest.
    """

    structure = "residual"
    seed: Tensor
    step: Tensor
    pending_items: Tensor

    def __init__(
        self, quantizers: Sequence[Quantizer], *, dropout: float = 0.0, beams: int = 1
    ) -> None:
        dims(quantizers)  # refuses what is none
        if not 0 <= numeric(dropout, "dropout") <= 1:
            raise ValueError(f"dropout is {dropout}; give a share between 0 and 1")
        beams = whole(beams, "beams", 1)
        able = (isinstance(q, LearnedQuantizer) and q.error_terms for q in quantizers)
        if beams > 1 and not all(able):
            raise ValueError(
                f"beams is {beams}; give 1, or more with codebooks as stages, whose losses "
                "are squared errors (vq, ema, ibq, simvq)"
            )
        super().__init__(quantizers)
        self.dropout = dropout
        self.beams = beams
        self.has_common_seed = False
        self.register_buffer("seed", torch.randint(2**62, (), device="cpu"))
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("pending_items", torch.zeros((), dtype=torch.int64), persistent=False)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.squashed(self.checked(z_e, mask))
        self.start(z_e, mask)
        if self.beams > 1 and not self.training:
            return self._along(z_e, self._searched(z_e, mask), mask)
        counts = self._stages_of_items(z_e)
        left, sums, outputs = z_e, [], []
        for number, part in enumerate(self.parts):
            real = mask if counts is None else reaching(counts > number, z_e, mask)
            out = part(shrunk(left, part, number), real)
            added = grown(out.z_q, part, number)
            if counts is not None:
                added = added * reaching(counts > number, z_e).unsqueeze(-1)
            left = left - added.detach()
            sums.append(added)
            outputs.append(out)
        self.finish()
        total = torch.stack([out.objective.total for out in outputs]).sum() / len(outputs)
        return Quantized(
            z_q=self.passed_once(z_e, summed(sums), mask),
            indices=torch.cat([out.indices for out in outputs], -1),
            objective=Mean(total, num_real(z_e, mask)),
            terms=summed_terms(outputs),
            coded=None if counts is None else stages_coded(outputs, counts, z_e),
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        z_e = self.squashed(self.checked(z_e, mask))
        if self.beams > 1:
            return self._searched(z_e, mask)
        left, indices = z_e, []
        for number, part in enumerate(self.parts):
            indices.append(part.encode(shrunk(left, part, number), mask))
            left = left - grown(part.decode(indices[-1]), part, number)
        return torch.cat(indices, -1)

    def decode(self, indices: Tensor) -> Tensor:
        """The vectors that indices of all stages, or of any number of leading ones, stand for.

        Args:
            indices: One integer for each codebook of these stages. (..., Q)

        Returns:
            Vectors. (..., D)
        """
        check_tensor(indices, "indices", "Q")
        per_part = [len(part.codebook_sizes) for part in self.parts]
        edges = [sum(per_part[:number]) for number in range(len(per_part) + 1)]
        length = indices.shape[-1] if indices.dim() else 0
        if length not in edges[1:]:
            raise ValueError(
                f"indices have shape {tuple(indices.shape)}; make the last axis one of "
                f"{edges[1:]} long: so many have 1, 2 and more stages"
            )
        num = edges.index(length)
        cut = enumerate(zip(self.parts[:num], indices.split(per_part[:num], -1), strict=True))
        return summed([grown(p.decode(some), p, number) for number, (p, some) in cut])

    def commit(self) -> None:
        super().commit()
        self.step.add_(self.pending_items > 0)
        self.pending_items.zero_()

    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        whole = left = self.squashed(real_rows(z_e, mask))
        seen = []
        self.seed.fill_(random.hash_int(seed))
        self.has_common_seed = True
        # Of one quantizer for all stages a copy starts, to see what the stages leave.
        trial = [copy.deepcopy(self.parts[0])] * len(self.parts) if self.is_shared else None
        for number, part in enumerate(trial or self.parts):
            left = shrunk(left, part, number)
            seen.append(left)
            if not self.is_shared or number == 0:
                own = random.hash_int(seed, number)
                part.initialize(left, seed=own, keep_started=keep_started)
            if self.beams > 1 and trial is None:  # what the best sums leave, not the first found
                left = whole - self.decode(self._found(whole, number + 1))
            else:
                left = grown(left - part.decode(part.encode(left)), part, number)
        if self.is_shared:  # all stages have to live with one codebook
            own = random.hash_int(seed, 0)
            self.parts[0].initialize(torch.cat(seen), seed=own, keep_started=keep_started)

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        left = self.squashed(self.checked(z_e, mask))
        for number, part in enumerate(self.parts):
            scaled = shrunk(left, part, number)
            yield from part.seen(scaled, mask)
            z_q = part.decode(part.encode(scaled, mask))
            left = grown(scaled - z_q, part, number)

    def _stages_of_items(self, z_e: Tensor) -> Tensor | None:
        """By how many stages each item is coded; None when all are by all. (B,) int64"""
        num_stages = len(self.parts)
        if not self.training or self.dropout == 0 or num_stages == 1:
            return None
        items = z_e.shape[0] if z_e.dim() > 1 else 1
        everyone = torch.ones(items, dtype=torch.bool, device=z_e.device)
        if self.learns:
            agree_on_seed(self)
        return of_pass(lambda: self._drawn_stages(everyone))

    def _drawn_stages(self, items: Tensor) -> Tensor:
        """Numbers of stages at random. (B,) bool -> (B,) int64"""
        words = self.seed, self.step, numbers(self.pending_items, items)
        num_stages = len(self.parts)
        shorter = 1 + (random.uniform(*words, 1) * (num_stages - 1)).long()
        return torch.where(random.uniform(*words, 0) < self.dropout, shorter, num_stages)

    def _searched(self, z_e: Tensor, mask: Tensor | None) -> Tensor:
        """Indices by a search that follows several sums of entries at a time. (..., Q)"""
        found = self._found(z_e.reshape(-1, self.dim), len(self.parts))
        return mask_out(found.view(*z_e.shape[:-1], len(self.parts)), mask)

    def _found(self, z: Tensor, num_stages: int) -> Tensor:
        """The indices of the first stages, by that search. (N, D) -> (N, num_stages)"""
        tables = [book.table.detach() for book in self.codebooks()[:num_stages]]
        return beam_search(z.detach(), tables, self.beams)

    def _along(self, z_e: Tensor, indices: Tensor, mask: Tensor | None) -> Quantized:
        """What ``forward`` returns in evaluation, for indices that were searched for."""
        left, errors = z_e, []
        for book, some in zip(self.codebooks(), indices.unbind(-1), strict=True):
            z_q = book.lookup(some)
            errors.append(Mean.over(squared_errors(book.project(left), z_q), mask))
            left = left - z_q
        pairs = zip(self.parts, errors, strict=True)
        total = torch.stack([part.error_weight * mean.total for part, mean in pairs]).sum()
        return Quantized(
            z_q=self.passed(z_e, self.decode(indices), mask),
            indices=indices,
            objective=Mean(total / len(errors), num_real(z_e, mask)),
            terms={
                name: sum(errors[1:], errors[0])
                for part in self.parts
                if isinstance(part, LearnedQuantizer)
                for name in part.error_terms
            },
        )


def stages_coded(outputs: Sequence[Quantized], counts: Tensor, z_e: Tensor) -> Tensor:
    """Which integers of all stages stand for something if each item (B,) has so many. (..., Q)"""
    reached = (reaching(counts > number, z_e).unsqueeze(-1) for number in range(len(outputs)))
    return torch.cat([a & b for a, b in zip(all_coded(outputs), reached, strict=True)], -1)


def shrunk(vectors: Tensor, part: Quantizer, number: int) -> Tensor:
    """What a stage is given of what is left, in the range that it codes. (..., D)"""
    scale = part.residual_scale
    # A division by 1 costs a pass over the vectors, and another backward.
    return vectors if isinstance(scale, float) and scale == 1 else vectors / scale**number


def grown(vectors: Tensor, part: Quantizer, number: int) -> Tensor:
    """What a stage coded, in the range of what was left. (..., D)"""
    scale = part.residual_scale
    return vectors if isinstance(scale, float) and scale == 1 else vectors * scale**number


def reaching(items: Tensor, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
    """The real positions of some items.

    Args:
        items: Which. (B,) bool
        z_e: Vectors. (B, ..., D)
        mask: True where a position is real; None when all are. (B, ...) bool

    Returns:
        (B, ...) bool
    """
    shape = z_e.shape[:-1]
    found = items.view(-1, *[1] * (len(shape) - 1)).expand(shape) if shape else items.squeeze(0)
    return found if mask is None else found & mask
