"""What each of several levels of codes carries: what goes wrong without it, and how that looks."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqkit.autoencoder import VQVAE, Output
from vqkit.codes import Codes, Level, LevelSpec
from vqkit.data import Batch, Examples, collate, in_order
from vqkit.distributed import all_reduce
from vqkit.modalities.image.levels import to_level
from vqkit.modalities.image.metrics import ROUNDING
from vqkit.nn import AutoregressiveDecoder

LEAST = 0.01
"""A level whose exchange makes the error rise by less than this share of it carries nothing."""
LEAST_BITS = 0.01
"""The same of the bits per dimension, where a likelihood is claimed."""
ADVICE = "Train longer (train.steps), or do with fewer levels (model.network.levels)"


@dataclass(frozen=True, slots=True, eq=False)
class LevelPictures:
    """Some items of a split, decoded from their coarsest levels alone.

    Attributes:
        indices: Their numbers in the split. N
        originals: Images. (N, C, H, W) uint8
        upto: For k = 1, 2, ... what is decoded from the k coarsest levels. The last is the
            reconstruction. Each (N, C, H, W) uint8
        hidden: Whether the other levels were hidden, as in training with level dropout; else every
            code in them is their level's neutral one.
    """

    indices: tuple[int, ...]
    originals: Tensor
    upto: tuple[Tensor, ...]
    hidden: bool


class LevelTotals:
    """Adds up over a split what the reconstructions lose when one level's codes are exchanged.

    Each item gets that level's codes of the item before it, the first those of the last; all other
    levels keep theirs. Figures are totals over counts, whatever the batches and the ranks.

    Args:
        model: In evaluation mode when batches are added.
        examples: The split, of which each rank adds a stretch in order.
        device: Where the model is.
    """

    def __init__(self, model: VQVAE, examples: Examples, *, device: torch.device | str) -> None:
        self.model, self.examples, self.device = model, examples, device
        num = len(model.quantizers)
        self.errors = torch.zeros(num + 1, dtype=torch.float64, device=device)  # the last: own
        self.nats = torch.zeros_like(self.errors)
        self.counts = torch.zeros(3, dtype=torch.int64, device=device)  # values, with nats, unlike
        self.sums = [
            torch.zeros(q.dim, dtype=torch.float64, device=device) for q in model.quantizers
        ]
        self.vectors = torch.zeros(num, dtype=torch.int64, device=device)
        self.before: Codes | None = None
        # To draw all items pixel after pixel takes too long: then only what they cost is known.
        self.draws = not isinstance(model.decoder, AutoregressiveDecoder)

    @torch.no_grad()
    def add(self, batch: Batch, out: Output, log_prob: Tensor | None = None) -> None:
        """Counts a batch in.

        Args:
            batch: The next items of the stretch, on the device.
            out: What the model made of it.
            log_prob: Of the items in nats; None where no likelihood is claimed. (B,)
        """
        self._add_vectors(out)
        before = self._before(batch) if self.before is None else self.before
        self.before = out.codes[-1:]
        if batch.mask is not None or before.specs != out.codes.specs:
            self.counts[2] += 1  # codes of images of unlike sizes cannot be exchanged
            return
        others = Codes.cat([before, out.codes[:-1]]) if len(batch) > 1 else before
        self.counts[0] += batch.x.numel()
        if self.draws:
            self.errors[-1] += squared_error(batch.x, out.reconstruction)
        if log_prob is not None:
            self.counts[1] += batch.x.numel()
            self.nats[-1] -= log_prob.double().sum()
        for number in range(len(self.sums)):
            found = self.model.distribution(exchanged(out.codes, others, number))
            if self.draws:
                self.errors[number] += squared_error(batch.x, found.mode())
            if log_prob is not None:
                x = self.model.objective.normalize(batch.x)
                self.nats[number] -= found.log_prob(x).double().sum()

    def _add_vectors(self, out: Output) -> None:
        levels = zip(self.model.quantizers, out.codes.levels, out.masks, strict=True)
        for number, (quantizer, level, mask) in enumerate(levels):
            vectors = quantizer.decode(level.indices).double()
            real = vectors.flatten(0, -2) if mask is None else vectors[mask]
            self.sums[number] += real.sum(0)
            self.vectors[number] += len(real)

    def _before(self, batch: Batch) -> Codes:
        """The codes of the item before a batch; before the first that is the last of the split."""
        index = (int(batch.positions[0]) - 1) % len(self.examples)
        one = collate([self.examples.example(index)], [index]).to(self.device)
        return self.model.encode(one.x, one.mask)

    def results(self) -> list[dict[str, float]]:
        """The figures over all batches of all ranks; every rank must call it.

        Returns:
            For each level, coarsest first: ``mse`` with its codes exchanged, on the scale from 0
            to 1, and ``mse_rise``, by what share that is above the model's own (one below that of
            rounding to 8 bits counts as such), but for autoregressive decoders. Where a likelihood
            is claimed also
            ``decoder_bits_per_dim`` and ``bits_per_dim_rise``, the difference. Empty for images
            of unlike sizes, and for one image alone.
        """
        errors, nats = all_reduce(self.errors.clone()), all_reduce(self.nats.clone())
        values, with_nats, unlike = all_reduce(self.counts.clone()).tolist()
        if unlike or not values or len(self.examples) < 2:
            return []
        *mse, own = (errors / values).tolist()
        *bits, own_bits = (nats / (values * math.log(2))).tolist()
        found = [{"mse": each, "mse_rise": (each - own) / max(own, ROUNDING)} for each in mse]
        if not self.draws:
            found = [dict[str, float]() for _ in mse]
        if with_nats == values:
            for figures, each in zip(found, bits, strict=True):
                figures |= {"decoder_bits_per_dim": each, "bits_per_dim_rise": each - own_bits}
        return found

    def means(self) -> list[Tensor]:
        """The mean quantized vector of each level, over all ranks; every rank must call it.

        Returns:
            Each (D,) float64
        """
        counts = all_reduce(self.vectors.clone()).clamp(min=1)
        return [all_reduce(each.clone()) / n for each, n in zip(self.sums, counts, strict=True)]


def squared_error(x: Tensor, reconstruction: Tensor) -> Tensor:
    """Sum over all values on the scale from 0 to 1. () float64"""
    return ((to_level(x) - to_level(reconstruction)) / 255).square().sum()


def exchanged(codes: Codes, others: Codes, level: int) -> Codes:
    """Codes with one level of others'."""
    levels = list(codes.levels)
    levels[level] = others.levels[level]
    return Codes(tuple(levels))


@torch.no_grad()
def neutral(model: VQVAE, out: Output, means: Sequence[Tensor]) -> list[Level]:
    """For each level codes that say the least: at every place the one nearest to the mean vector.

    Args:
        model: In evaluation mode.
        out: Of some items without masks, whose shapes are taken.
        means: Of the quantized vectors of each level. Each (D,)
    """
    found = []
    for quantizer, level, z_e, mean in zip(
        model.quantizers, out.codes.levels, out.z_e, means, strict=True
    ):
        vectors = mean.to(torch.promote_types(z_e.dtype, torch.float32)).expand(z_e.shape)
        indices = quantizer.encode(vectors.contiguous())
        found.append(Level(indices, level.codebook_sizes, level.structure))
    return found


@torch.no_grad()
def show_levels(
    model: VQVAE,
    examples: Examples,
    means: Sequence[Tensor],
    num: int,
    device: torch.device | str,
) -> LevelPictures | None:
    """Decodes some items, evenly spread over the split, from their coarsest levels alone.

    Args:
        model: In evaluation mode.
        examples: The split, of images of one size.
        means: What ``LevelTotals.means`` gave.
        num: How many items, at most.
        device: Where the model is.

    Returns:
        None if the items are no pictures of one size.
    """
    num = min(num, len(examples))
    indices = [i * len(examples) // num for i in range(num)]
    (batch,) = in_order(examples, num, indices=indices)
    draw = model.objective.modality.pictures
    originals = draw(batch.x)
    if batch.mask is not None or originals is None:
        return None
    out, counts = model(batch.x.to(device)), range(1, len(model.quantizers) + 1)
    hides = model.config is not None and model.config.hides_levels
    if hides:
        upto = [model.distribution(out.codes, k).mode().cpu() for k in counts]
    else:
        blank = neutral(model, out, means)
        upto = [model.decode(Codes((*out.codes.levels[:k], *blank[k:]))).cpu() for k in counts]
    shown = tuple(x for x in map(draw, upto) if x is not None)
    return LevelPictures(tuple(indices), originals, shown, hides)


def idle_levels(figures: Sequence[dict[str, Any]]) -> list[int]:
    """The numbers, from 0, of the levels that carry nothing, by what ``LevelTotals`` found."""
    return [
        number
        for number, each in enumerate(figures)
        if each
        and each.get("mse_rise", 0) < LEAST
        and each.get("bits_per_dim_rise", 0) < LEAST_BITS
    ]


def findings(figures: Sequence[dict[str, Any]]) -> list[str]:
    """What is wrong with the levels, and what to try; a line for each that carries nothing."""
    lines = []
    for number in idle_levels(figures):
        each = figures[number]
        rise = f"the error rises by {max(each.get('mse_rise', 0), 0):.2%}, less than {LEAST:.0%}"
        if "mse_rise" not in each:
            bits = max(each["bits_per_dim_rise"], 0)
            rise = f"the cost rises by {bits:.4f} bits/dim, less than {LEAST_BITS}"
        lines.append(
            f"level {number + 1} of {len(figures)}, coarsest first, carries nothing: with the "
            f"codes of another image in it {rise}. {ADVICE}"
        )
    return lines


def name_of(number: int, specs: Sequence[LevelSpec]) -> str:
    """What to call a level: its number from 1, and which end it is at."""
    ends = {0: ", coarsest", len(specs) - 1: ", finest"}
    return f"Level {number + 1}{ends.get(number, '')}"
