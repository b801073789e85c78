"""Masked vector quantization: only the positions that are worth it get a code."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit import distributed, random
from vqkit.means import Mean
from vqkit.quantizers.assignment import numbers
from vqkit.quantizers.base import (
    Quantized,
    Quantizer,
    detached_at_padding,
    num_real,
    real_positions,
    real_rows,
)
from vqkit.quantizers.checks import NotFinite, are_finite, numeric
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.composite import WrappedQuantizer, dims, refuse_grid_readers
from vqkit.quantizers.ema import EMAConfig
from vqkit.quantizers.foretold import Foretold
from vqkit.quantizers.hiding import Hiding, hidden
from vqkit.quantizers.kmeans import check_vectors
from vqkit.quantizers.passes import all_of_pass
from vqkit.quantizers.seeds import agree_on_seed
from vqkit.quantizers.state import mark_started, register_start
from vqkit.schema import STRICT

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig

KEPT = "kept"  # the name of the codebook of flags
CORRECTION = 0.1  # of the threshold in a commit, in spreads of scores, if all are kept for none
WEIGHT = 0.1  # of a step in the running averages
TRIED = 0.1  # share of the positions that training keeps or leaves out by chance


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SelectiveConfig:
    """Any quantizer, for the positions alone that are worth a code."""

    type: Literal["selective"] = "selective"
    quantizer: Annotated[
        "QuantizerConfig", Field(description="Any quantizer, for the positions that are kept.")
    ] = EMAConfig()
    keep: Annotated[
        float,
        Field(
            gt=0,
            le=1,
            description="Share of the positions that get a code, on average over the data; an item "
            "may have more or fewer. With 1 all do.",
        ),
    ] = 0.5
    hiding: Annotated[
        Hiding | None,
        Field(description="Positions hidden at random in training, to make codes local."),
    ] = None

    def build(self, dim: int) -> "Selective":
        """The quantizer for vectors of length ``dim``."""
        return Selective(self.quantizer.build(dim), keep=self.keep, hiding=self.hiding)


class Selective(WrappedQuantizer):
    """Gives a code to the positions that are worth it, and one learned vector to all others.

    Not All Image Regions Matter: Masked Vector Quantization for Autoregressive Image Generation,
    section 3.1, https://arxiv.org/abs/2305.13607. Unlike there, where each item keeps as many, a
    position is kept if its score exceeds a threshold that lets ``keep`` of all positions through:
    an item has as many codes as it needs.

    The first codebook of the indices has two entries: 1 for a position that is kept, 0 for one
    that is left out, whose other indices are 0. So what was kept is part of the code.

    A score foretells by how much the loss would fall, to first order, if a position that is left
    out got its vector: -dL/dz_q (z_e - fill), as the decoder's gradient says where one is left
    out. It is in units of the root mean square of that, fitted by least squares, and moves no
    other part. In training a few positions are kept or left out by chance, so that every kind is
    seen without a code now and then.

    Args:
        quantizer: Any quantizer.
        keep: Share of the positions that get a code, on average; with 1 all do.
        hiding: Positions that get none in training, besides. Where what they become has no part
            in the loss, as in ``VQVAE``, codes become local: another may be missing.

    Attributes:
        score: From vectors (..., D) to how much each is worth a code (..., 1).
        fill: What positions without a code become. (D,)
        average: Running averages of the scores and of their squares. (2,)
        unit: Running mean of the squares of what scores foretell. ()
        gains: Sum and number of these squares in backward passes since the last commit; saved,
            because a layer that commits in its forward commits them in the next step. (2,)
        offset: By how many of their spreads the threshold is above the average score. ()
        initialized: Whether the threshold was started from data. () bool
    """

    structure = "selective"
    is_initialized = False
    initialized: Tensor
    average: Tensor
    unit: Tensor
    offset: Tensor
    seed: Tensor
    step: Tensor
    pending_scores: Tensor
    gains: Tensor
    pending_kept: Tensor
    pending_seen: Tensor
    pending_items: Tensor

    def __init__(
        self, quantizer: Quantizer, *, keep: float = 0.5, hiding: Hiding | None = None
    ) -> None:
        if not 0 < numeric(keep, "keep") <= 1:
            raise ValueError(f"keep is {keep}; give a share greater than 0, and not above 1")
        (dim,) = dims([quantizer])
        if any(isinstance(module, Selective) for module in quantizer.modules()):
            raise ValueError("quantizer is selective already; give one share, keep, to one of them")
        if hiding is not None and not isinstance(hiding, Hiding):
            raise TypeError(f"hiding is {hiding!r}; give Hiding(share=...), or None")
        refuse_grid_readers([quantizer])
        super().__init__(dim, quantizer)
        self.structure = "selective"
        self.keep = keep = float(keep)
        self.hiding = hiding
        self.score = nn.Sequential(nn.Linear(dim, dim), nn.SiLU(), nn.Linear(dim, 1, bias=False))
        self.score.requires_grad_(keep < 1)
        self.fill = nn.Parameter(torch.zeros(dim))
        self.register_buffer("average", torch.tensor([0.0, 1.0]))
        self.register_buffer("offset", torch.zeros(()))
        self.register_buffer("unit", torch.zeros(()))
        self.register_buffer("pending_scores", torch.zeros(2), persistent=False)
        self.register_buffer("gains", torch.zeros(2))
        register_start(self)
        self.has_common_seed = False
        self.register_buffer("seed", torch.randint(2**62, (), device="cpu"))
        for name in ("step", "pending_kept", "pending_seen", "pending_items"):
            count = torch.zeros((), dtype=torch.int64)
            self.register_buffer(name, count, persistent=name == "step")

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (2, *self.quantizer.codebook_sizes)

    @property
    def codebook_names(self) -> tuple[str, ...]:
        inner = self.quantizer.codebook_names
        return (KEPT, *(f"code {name}".strip() for name in inner))

    def named_codebooks(self) -> dict[str, Codebook]:
        inner = self.quantizer.named_codebooks()
        return {f"code {name}".strip(): book for name, book in inner.items()}

    @property
    def is_started(self) -> bool:
        return self.is_initialized and super().is_started

    @property
    def threshold(self) -> Tensor:
        """The score above which positions are kept. ()"""
        mean, square = self.average.unbind()
        return mean + self.offset * (square - mean.square()).clamp(min=0).sqrt()

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.checked(z_e, mask)
        self.start(z_e, mask)
        scores = self._scores(z_e)
        unit, unseen = self.unit, torch.zeros_like(scores, dtype=torch.bool)
        if self.training:
            found = all_of_pass(lambda: self._kept_in_training(scores.detach(), z_e, mask))
            kept, unit, unseen = found
        else:
            kept = self._kept(scores, mask)
        out = self.quantizer(z_e, kept)
        z_q = torch.where(kept.unsqueeze(-1), out.z_q, self.fill.to(out.z_q.dtype))
        if self.training and self.keep < 1:
            left_out = ~(kept | unseen) if mask is None else mask & ~(kept | unseen)
            missing = (z_e - self.fill).detach().to(z_q.dtype) * left_out.unsqueeze(-1)
            z_q = Foretold.apply(z_q, scores, missing, unit.sqrt(), self.gains)
        self.finish()
        return Quantized(
            z_q=detached_at_padding(z_q, mask),
            indices=torch.cat([kept.unsqueeze(-1).long(), out.indices], -1),
            objective=Mean(out.objective.total, num_real(z_e, mask)),
            terms=out.terms,
            hidden=unseen if self.training and self.hiding is not None else None,
            coded=None if out.coded is None else F.pad(out.coded, (1, 0), value=True),
        )

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        z_e = self.checked(z_e, mask)
        kept = self._kept(self._scores(z_e), mask)
        return torch.cat([kept.unsqueeze(-1).long(), self.quantizer.encode(z_e, kept)], -1)

    def decode(self, indices: Tensor) -> Tensor:
        self.check_indices(indices)
        z_q = self.quantizer.decode(indices[..., 1:])
        return torch.where(indices[..., :1] > 0, z_q, self.fill.to(z_q.dtype))

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        z_e = self.checked(z_e, mask)
        return self.quantizer.seen(z_e, self._kept(self._scores(z_e), mask))

    def commit(self) -> None:
        """Commits inside, and moves the threshold toward the share that is to be kept."""
        super().commit()
        seen, something = self.pending_seen, self.pending_seen > 0
        share = distributed.all_reduce(self.pending_kept) / seen.clamp(min=1)
        self.offset.add_(CORRECTION * (share - self.keep) * something)
        averages = distributed.all_reduce(self.pending_scores) / seen.clamp(min=1)
        follow(self.average, averages, WEIGHT * something)
        squares, num = distributed.all_reduce(self.gains).unbind()
        weight = torch.where(self.unit > 0, WEIGHT, 1.0) * (num > 0)
        follow(self.unit, squares / num.clamp(min=1), weight)
        self.step.add_(something)
        pending = self.pending_scores, self.pending_kept, self.pending_seen, self.pending_items
        for collected in (*pending, self.gains):
            collected.zero_()

    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        z_e = real_rows(z_e, mask)
        check_vectors(z_e)
        kept = keep_started and self.is_initialized
        threshold = None if kept else self._first_threshold(z_e)  # what it refuses changes nothing
        self.seed.fill_(random.hash_int(seed))
        self.has_common_seed = True
        own = random.hash_int(seed, 0)
        self.quantizer.initialize(z_e, seed=own, keep_started=keep_started)
        if threshold is not None:
            self.average.copy_(threshold[0])
            self.offset.copy_(threshold[1])
            mark_started(self)

    def _first_threshold(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        """The average and the offset that let through the share to keep of vectors. (N, D)"""
        # Equal vectors may still give other bits on another device: the first rank's count.
        scores = distributed.all_gather(self._scores(z_e).flatten().sort().values)[0]
        average = torch.stack([scores.mean(), scores.square().mean()])
        if not are_finite(average):
            raise NotFinite("vectors are too large to start a threshold; look at the encoder")
        num = min(max(round((1 - self.keep) * len(scores)), 1), len(scores) - 1)
        between = scores[[num - 1, num]].mean()  # a score itself might be kept or not by rounding
        spread = scores.std(correction=0).clamp(min=torch.finfo(scores.dtype).tiny)
        return average, (between - scores.mean()) / spread

    def _scores(self, z_e: Tensor) -> Tensor:
        """How much each position is worth a code. (..., D) -> (...)"""
        rows = z_e.detach().to(self.fill.dtype)
        with torch.autocast(rows.device.type, enabled=False):  # or others would be kept
            return self.score(rows).squeeze(-1).to(self.offset.dtype)

    def _kept_in_training(self, scores: Tensor, z_e: Tensor, mask: Tensor | None) -> list[Tensor]:
        """What training keeps, the unit of scores, and what is hidden. (...) bool, (), (...) bool

        What moves the threshold is collected.
        """
        agree_on_seed(self)
        kept = self._kept(scores, mask)
        real = scores if mask is None else scores.masked_fill(~mask, 0)
        self.pending_scores += torch.stack([real.sum(), real.square().sum()])
        self.pending_kept += kept.sum()
        kept, unseen = self._tried(z_e, kept, mask)
        return [kept, self.unit.clone(), unseen]

    def _kept(self, scores: Tensor, mask: Tensor | None) -> Tensor:
        """The real positions that are worth a code. (...) bool"""
        kept = scores > self.threshold if self.keep < 1 else torch.ones_like(scores).bool()
        return kept if mask is None else kept & mask

    def _tried(self, z_e: Tensor, kept: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """What training keeps, some by chance and none that is hidden, and that. (...) bool"""
        places = numbers(self.pending_seen, real_positions(z_e, mask)).view(kept.shape)
        words = self.seed, self.step
        if self.keep < 1:
            by_chance = random.uniform(*words, places, 0) < self.keep
            kept = torch.where(random.uniform(*words, places, 1) < TRIED, by_chance, kept)
        unseen = torch.zeros_like(kept)
        if self.hiding is not None:
            items = None
            if self.hiding.block > 1 and kept.dim() > 1:
                items = numbers(self.pending_items, kept.new_ones(len(kept)))
            unseen = hidden(self.hiding, words, places, items)
        kept = kept & ~unseen
        return kept if mask is None else kept & mask, unseen


def follow(average: Tensor, value: Tensor, weight: Tensor) -> None:
    """Moves a running average to a value, unless that is not finite, of an overflow."""
    average.lerp_(value.nan_to_num(), (weight * value.isfinite().all()).to(average.dtype))
