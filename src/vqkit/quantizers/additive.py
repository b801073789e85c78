"""Additive quantization: the entries of all stages of a sum are fitted together."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit import distributed, random
from vqkit.quantizers.base import Quantizer, real_rows
from vqkit.quantizers.checks import check_vectors, checked_batch, whole
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.ema import EMAConfig
from vqkit.quantizers.learned import LearnedQuantizer
from vqkit.quantizers.refit import Batches, check, finite, set_averages
from vqkit.quantizers.residual import Residual
from vqkit.quantizers.together import MOST_ENTRIES, NormalEquations, fitted_together
from vqkit.schema import STRICT

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AdditiveConfig:
    """Sums of entries that are fitted together from the first vectors."""

    type: Literal["additive"] = "additive"
    quantizer: Annotated[
        "QuantizerConfig", Field(description="What each stage is; one with a codebook.")
    ] = EMAConfig()
    stages: Annotated[int, Field(ge=1, description="Number of entries of a sum Q.")] = 4
    beams: Annotated[
        int, Field(ge=1, description="How many sums of entries encoding follows at a time.")
    ] = 8
    rounds: Annotated[
        int,
        Field(ge=0, description="Number of times that codes and entries are fitted to each other."),
    ] = 25

    def build(self, dim: int) -> "Additive":
        """The quantizer for vectors of length ``dim``."""
        made = [self.quantizer.build(dim) for _ in range(self.stages)]
        return Additive(made, beams=self.beams, rounds=self.rounds)


class Additive(Residual):
    """Codes vectors as sums of entries; start and refit fit those of all stages at once.

    Additive Quantization for Extreme Vector Compression, https://doi.org/10.1109/CVPR.2014.124. It
    starts as a residual quantizer, and goes on as ``fitted_together`` tells. The error of all
    stages is smaller than that of a residual quantizer, that of the first ones alone is larger.
    Made for vectors that stay, as those of a trained encoder, or without one: training moves
    entries as those of ``Residual``.

    Args:
        quantizers: The stages, for vectors of one length, each with a codebook of its own.
        beams: How many sums of entries ``encode`` follows at a time.
        rounds: Number of times that codes and entries are fitted to each other at the start.
    """

    def __init__(
        self, quantizers: Sequence[Quantizer], *, beams: int = 8, rounds: int = 25
    ) -> None:
        super().__init__(quantizers, beams=beams)
        self.rounds = whole(rounds, "rounds", 0)
        plain = (
            isinstance(q, LearnedQuantizer) and type(q.codebook) is Codebook for q in self.parts
        )
        if not all(plain) or len(set(self.codebooks())) < len(self.parts):
            raise ValueError(
                "the stages of a sum need codebooks of their own, of entries that move freely; "
                "give vq, ema or ibq quantizers, each another"
            )
        if (total := sum(self.codebook_sizes)) > MOST_ENTRIES:
            raise ValueError(
                f"the codebooks have {total} entries together; give at most {MOST_ENTRIES}, or "
                "make it Residual"
            )

    @torch.no_grad()
    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        kept = keep_started and any(book.is_initialized for book in self.codebooks())
        super().start_parts(z_e, mask, seed=seed, keep_started=keep_started)
        if kept or not self.rounds:
            return
        z, tables = real_rows(z_e, mask), [book.table for book in self.codebooks()]
        own = random.hash_int(seed, len(tables))
        options = {"beams": self.beams, "rounds": self.rounds, "seed": own}
        z = z.to(tables[0].dtype)
        self.set_tables(fitted_together(z, tables, **options))
        for book, some in zip(self.codebooks(), self.encode(z).unbind(-1), strict=True):
            set_averages(book, some.bincount(minlength=book.size), 1)

    @torch.no_grad()
    def refit(self, batches: Batches, *, passes: int = 10) -> tuple[tuple[float, ...], ...]:
        """Moves the entries of all codebooks at once to where the sums fit best.

        A pass that would make the error grow is taken back, and is the last.

        Args:
            batches: As for ``refit`` of any quantizer.
            passes: Number of passes, at least 1.

        Returns:
            For each of ``codebooks``, the mean squared error of the sums, over vectors and
            coordinates: before the first pass, and after each. It never grows.
        """
        check(self.codebooks(), batches, passes)
        best = self._read(batches)
        errors = [best.error]
        for _ in range(passes):
            before = [book.table.clone() for book in self.codebooks()]
            self.set_tables(best.equations.solve())
            after = self._read(batches)
            if after.error > best.error:  # codes that a search finds need not be the best
                self.set_tables(before)
                break
            best = after
            errors.append(best.error)
        for book, counts in zip(self.codebooks(), best.equations.counts, strict=True):
            set_averages(book, counts, len(batches))
        return (tuple(errors),) * len(self.codebooks())

    def set_tables(self, tables: Sequence[Tensor]) -> None:
        """Puts other entries, the first rank's, in the places of these. Each (K, D)"""
        for book, table in zip(self.codebooks(), tables, strict=True):
            book.set_table(distributed.all_gather(table)[0])

    def _read(self, batches: Batches) -> "Reading":
        """What all batches of all ranks add up to."""
        reading = Reading(self)
        for batch in batches:
            z_e, mask = checked_batch(batch)
            check_vectors(z_e, self.dim)
            reading.add(real_rows(*finite(z_e, mask)))
        reading.finish()
        return reading


class Reading:
    """What one pass over the data adds up.

    Args:
        quantizer: Whose entries are to be fitted.
    """

    def __init__(self, quantizer: Additive) -> None:
        self.quantizer = quantizer
        like = quantizer.codebooks()[0].table
        self.equations = NormalEquations(quantizer.codebook_sizes, like)
        self.total = torch.zeros(2, dtype=torch.float64, device=like.device)

    def add(self, z: Tensor) -> None:
        """Takes in vectors of this rank. (N, D)"""
        indices = self.quantizer.encode(z)
        self.equations.add(z, indices)
        squares = (z.double() - self.quantizer.decode(indices)).square().sum()
        self.total += torch.stack([squares, squares.new_tensor(z.numel())])

    def finish(self) -> None:
        """Adds up all ranks.

        Raises:
            ValueError: If there was no vector.
        """
        distributed.all_reduce(self.total)
        self.equations.reduce()
        if not self.total[1]:
            raise ValueError("batches hold no real vectors; give at least one")

    @property
    def error(self) -> float:
        """Mean squared error, over vectors and coordinates."""
        return float(self.total[0] / self.total[1])
