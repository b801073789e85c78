"""What quantizers made of other quantizers have in common."""

from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from vqkit import distributed
from vqkit.means import Mean
from vqkit.quantizers.base import Quantized, Quantizer
from vqkit.quantizers.checks import whole_seed
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.gathering import joined_items, joined_rows
from vqkit.quantizers.learned import LearnedQuantizer


class CompositeQuantizer(Quantizer):
    """Holds quantizers and commits for them: once each, however often one is used in a pass.

    Args:
        dim: Length D of each vector.
        quantizers: What it holds. The same one may be there several times.
    """

    def __init__(self, dim: int, quantizers: Sequence[Quantizer]) -> None:
        super().__init__(dim)
        unique = list(dict.fromkeys(quantizers))
        # Each once, or a saved file would hold its tensors several times.
        self.quantizers = nn.ModuleList(unique)
        self.order = tuple(unique.index(quantizer) for quantizer in quantizers)
        for quantizer in unique:
            quantizer.commit_in_forward = False

    @property
    def parts(self) -> tuple[Quantizer, ...]:
        """The quantizers in the order of the Q axis."""
        return tuple(self.quantizers[place] for place in self.order)  # pyright: ignore

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return tuple(size for part in self.parts for size in part.codebook_sizes)

    def codebooks(self) -> tuple[Codebook, ...]:
        return tuple(book for part in self.parts for book in part.codebooks())

    @property
    def codebook_names(self) -> tuple[str, ...]:
        placed = self._placed()
        return tuple(f"{where} {name}".strip() for where, p in placed for name in p.codebook_names)

    def named_codebooks(self) -> dict[str, Codebook]:
        return {
            f"{where} {name}".strip(): book
            for where, part in self._placed()
            for name, book in part.named_codebooks().items()
        }

    def _placed(self) -> Iterator[tuple[str, Quantizer]]:
        """Each part, and what it is here."""
        word = "stage" if self.structure == "residual" else "part"
        return ((f"{word} {number}", part) for number, part in enumerate(self.parts))

    def commit(self) -> None:
        for quantizer in self.quantizers:
            quantizer.commit()  # pyright: ignore

    def finish(self) -> None:
        """Ends a forward pass: commits in training, unless told not to."""
        if self.learns and self.commit_in_forward:
            self.commit()

    @property
    def is_started(self) -> bool:
        return all(part.is_started for part in self.parts)

    def start(self, z_e: Tensor, mask: Tensor | None) -> None:
        """In training, starts what has not started from the vectors of all ranks."""
        if not self.learns or self.is_started:
            return
        joined, real = (
            joined_items(z_e, mask) if self.reads_grid else (joined_rows(z_e, mask), None)
        )
        if len(joined) if real is None else real.any():
            seeds = [x for name, x in self.named_buffers() if name.rpartition(".")[-1] == "seed"]
            seed = int(distributed.all_gather(seeds[0])[0]) if seeds else 0
            self.initialize(joined, real, seed=seed, keep_started=True)

    @torch.no_grad()
    def initialize(
        self, z_e: Tensor, mask: Tensor | None = None, *, seed: int, keep_started: bool = False
    ) -> None:
        seed, z_e = whole_seed(seed), self.checked(z_e, mask)
        if keep_started and self.is_started:
            return
        parts = dict.fromkeys(self.parts)
        holders = Counter(b for part in parts for b in dict.fromkeys(part.codebooks()))
        several = [book for book, num in holders.items() if num > 1]
        anew = [book for book in several if not (keep_started and book.is_initialized)]
        self.start_parts(z_e, mask, seed=seed, keep_started=keep_started)
        # From all that its layers see; twice, since what stages leave depends on where it starts.
        for book in 2 * anew:
            rows = torch.cat([rows for one, rows in self.seen(z_e, mask) if one is book])
            for layer in self.modules():
                if isinstance(layer, LearnedQuantizer) and layer.codebook is book:
                    layer.initialize(rows, seed=int(book.seed))

    @abstractmethod
    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        """Starts each quantizer from what it is given of checked vectors; see ``initialize``."""


def dims(quantizers: Sequence[Quantizer]) -> list[int]:
    """The length of the vectors of each; raises an error where there is no quantizer."""
    if isinstance(quantizers, Quantizer) or not isinstance(quantizers, Sequence | nn.ModuleList):
        kind = type(quantizers).__name__
        raise TypeError(f"quantizers is a {kind}; give a list of quantizers")
    if not quantizers:
        raise ValueError("there are no quantizers; give one at least")
    for quantizer in quantizers:
        if not isinstance(quantizer, Quantizer):
            raise TypeError(f"one of the quantizers is {quantizer!r}; give quantizers of vqkit")
    return [quantizer.dim for quantizer in quantizers]


def refuse_grid_readers(quantizers: Sequence[Quantizer]) -> None:
    """Raises ValueError if a quantizer that reads the grid is to quantize parts or stages."""
    for quantizer in quantizers:
        if quantizer.reads_grid:
            name = type(quantizer).__name__
            raise ValueError(
                f"{name} reads the grid and is no part or stage of another quantizer; put such "
                f"quantizers inside it instead, or one that projects or normalizes around it"
            )


def refuse_some_shared(quantizers: Sequence[Quantizer], what: str) -> None:
    """Raises ValueError unless all are different, or one serves for all."""
    if len(set(quantizers)) not in (1, len(quantizers)):
        raise ValueError(f"some {what} share a quantizer and some do not; share all or none")


def without_parts(quantizer: Quantizer) -> list[Quantizer]:
    """Those inside that hold no other, each once; itself if it holds none."""
    found = [module for module in quantizer.modules() if isinstance(module, Quantizer)]
    return [
        one
        for one in found
        if not any(isinstance(module, Quantizer) for module in one.modules() if module is not one)
    ]


def summed_terms(
    outputs: Sequence[Quantized], weights: Sequence[int] | None = None
) -> dict[str, Mean]:
    """The terms of several quantizers by name, each a mean over all of them.

    Args:
        outputs: What they returned.
        weights: How often each counts; None for once.
    """
    terms: dict[str, Mean] = {}
    for out, weight in zip(outputs, weights or [1] * len(outputs), strict=True):
        for name, mean in out.terms.items():
            counted = mean if weight == 1 else Mean(weight * mean.total, weight * mean.count)
            terms[name] = terms[name] + counted if name in terms else counted
    return terms


def all_coded(outputs: Sequence[Quantized]) -> list[Tensor]:
    """Which integers of each of several quantizers stand for something. Each (..., Q) bool"""
    return [
        torch.ones_like(out.indices, dtype=torch.bool) if out.coded is None else out.coded
        for out in outputs
    ]


class WrappedQuantizer(CompositeQuantizer):
    """Holds one quantizer.

    Args:
        dim: Length D of each vector.
        quantizer: What it holds.
    """

    def __init__(self, dim: int, quantizer: Quantizer) -> None:
        dims([quantizer])  # refuses what is none
        super().__init__(dim, [quantizer])
        self.structure = quantizer.structure

    @property
    def reads_grid(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether what it holds reads the grid."""
        return self.quantizer.reads_grid

    @property
    def residual_scale(self) -> float | Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """That of what it holds."""
        return self.quantizer.residual_scale

    def squash(self, z_e: Tensor) -> Tensor:
        return self.quantizer.squash(z_e)

    def code_mask(self, mask: Tensor | None) -> Tensor | None:
        return self.quantizer.code_mask(mask)

    @property
    def quantizer(self) -> Quantizer:
        """What it holds."""
        return self.parts[0]

    @property
    def codebook_names(self) -> tuple[str, ...]:
        return self.quantizer.codebook_names

    def named_codebooks(self) -> dict[str, Codebook]:
        return self.quantizer.named_codebooks()
