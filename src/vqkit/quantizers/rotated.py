"""A rotation, learned once from data, before any quantizer."""

from collections.abc import Iterator
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor

from vqkit import distributed, random
from vqkit.quantizers.base import Quantized, Quantizer, detached_at_padding, real_rows
from vqkit.quantizers.checks import whole
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.composite import WrappedQuantizer, dims
from vqkit.quantizers.kmeans import FURTHER, PLAIN, lloyd_step
from vqkit.quantizers.product import ProductConfig
from vqkit.quantizers.refit import set_averages
from vqkit.quantizers.search import full_precision
from vqkit.schema import STRICT

if TYPE_CHECKING:
    from vqkit.quantizers import QuantizerConfig


@dataclass(frozen=True, kw_only=True, config=STRICT)
class RotatedConfig:
    """Any quantizer behind a rotation that is learned from the first vectors."""

    type: Literal["rotated"] = "rotated"
    quantizer: Annotated[
        "QuantizerConfig",
        Field(default_factory=ProductConfig, description="Any quantizer, for the rotated vectors."),
    ]
    iterations: Annotated[
        int,
        Field(
            ge=0,
            description="Number of times that entries and rotation are fitted to each other.",
        ),
    ] = 40

    def build(self, dim: int) -> "Rotated":
        """The quantizer for vectors of length ``dim``."""
        return Rotated(self.quantizer.build(dim), iterations=self.iterations)


class Rotated(WrappedQuantizer):
    """Turns vectors so that what is inside loses least, and turns them back.

    Optimized Product Quantization, https://doi.org/10.1109/CVPR.2013.379, algorithm 1: codebooks
    and rotation are fitted in turns, from vectors as they are. For given codes the best rotation
    solves the orthogonal Procrustes problem,

        U S V' = svd(X' Z_q),   R = U V',

    for centred vectors X and what their rotated copies X R become, Z_q. It stays afterwards.
    Distances are those of the vectors themselves, and so are losses.

    Args:
        quantizer: Any quantizer, of parts of vectors to make sense.
        iterations: Number of times that entries and rotation are fitted to each other.

    Attributes:
        center: What is taken away from vectors before, and added again. (D,)
        rotation: The rotation R, with columns of length 1; none until it is learned. (D, D)
    """

    center: Tensor
    rotation: Tensor

    def __init__(self, quantizer: Quantizer, *, iterations: int = 40) -> None:
        (dim,) = dims([quantizer])
        if quantizer.reads_grid:
            name = type(quantizer).__name__
            raise ValueError(f"{name} reads the grid; put the rotation inside it instead")
        super().__init__(dim, quantizer)
        self.iterations = whole(iterations, "iterations", 0)
        self.register_buffer("center", torch.zeros(dim))
        self.register_buffer("rotation", torch.eye(dim))

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_e = self.checked(z_e, mask)
        self.start(z_e, mask)
        out = self.quantizer(self.turned(z_e), mask)
        self.finish()
        z_q = detached_at_padding(self.turned_back(out.z_q), mask)
        return Quantized(z_q, out.indices, out.objective, out.terms, out.hidden, out.coded)

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return self.quantizer.encode(self.turned(self.checked(z_e, mask)), mask)

    def decode(self, indices: Tensor) -> Tensor:
        return self.turned_back(self.quantizer.decode(indices))

    def seen(self, z_e: Tensor, mask: Tensor | None = None) -> Iterator[tuple[Codebook, Tensor]]:
        return self.quantizer.seen(self.turned(self.checked(z_e, mask)), mask)

    def turned(self, z_e: Tensor) -> Tensor:
        """What is quantized of vectors. (..., D)"""
        return self._product(z_e.to(self._dtype(z_e)) - self.center, self.rotation)

    def turned_back(self, z_q: Tensor) -> Tensor:
        """The vectors of what was quantized. (..., D)"""
        return self._product(z_q.to(self._dtype(z_q)), self.rotation.T) + self.center

    def start_parts(
        self, z_e: Tensor, mask: Tensor | None, *, seed: int, keep_started: bool
    ) -> None:
        rows = real_rows(z_e, mask).to(self.rotation.dtype)
        kept = keep_started and any(book.is_initialized for book in self.codebooks())
        if not kept:
            self.center.copy_(distributed.all_gather(rows.mean(0))[0])
            self.rotation.copy_(torch.eye(self.dim))
        inside = self.turned(rows)
        self.quantizer.initialize(inside, seed=seed, keep_started=keep_started)
        if kept or not self.iterations:
            return
        for iteration in range(self.iterations):
            self.rotation.copy_(best_rotation(rows - self.center, self._coded(inside)))
            inside = self.turned(rows)
            reach = FURTHER if iteration < self.iterations - PLAIN else 1.0
            for book, vectors in seen_by_each(self.quantizer, inside):
                own = random.hash_int(seed, iteration)
                table = lloyd_step(vectors, book.table, own, reach)
                book.set_table(book.placed(distributed.all_gather(table)[0]))
        for book, vectors in seen_by_each(self.quantizer, inside):
            set_averages(book, book.nearest(vectors).bincount(minlength=book.size), 1)

    def _coded(self, inside: Tensor) -> Tensor:
        """What rotated vectors become. (N, D)"""
        return self.quantizer.decode(self.quantizer.encode(inside))

    def _dtype(self, z: Tensor) -> torch.dtype:
        return torch.promote_types(z.dtype, self.rotation.dtype)

    def _product(self, z: Tensor, matrix: Tensor) -> Tensor:
        """Vectors (..., D) times a matrix (D, D), whatever precision was chosen."""
        kind = z.device.type  # rounded vectors have other codes
        compiling = torch.compiler.is_compiling()  # where nobody may look at what was chosen
        exact = nullcontext() if compiling else full_precision(kind)
        with torch.autocast(kind, enabled=False), exact:
            return z @ matrix.to(z.dtype)


def best_rotation(x: Tensor, z_q: Tensor) -> Tensor:
    """The R without stretching that brings x R nearest to z_q; the first rank's on all.

    Args:
        x: Centred vectors, the same on every rank. (N, D)
        z_q: What they shall become. (N, D)

    Returns:
        (D, D)
    """
    with full_precision(x.device.type):
        u, _, v = torch.linalg.svd((x.T @ z_q.to(x.dtype)).double())
    return distributed.all_gather((u @ v).to(x.dtype))[0]


def seen_by_each(quantizer: Quantizer, z_e: Tensor) -> Iterator[tuple[Codebook, Tensor]]:
    """Each codebook once, with all that it is asked for of vectors (N, D), wherever it stands.

    A codebook that stands alone may move before the next one is told what it sees.
    """
    books = quantizer.codebooks()
    shared: dict[Codebook, list[Tensor]] = {book: [] for book in books if books.count(book) > 1}
    for book, vectors in quantizer.seen(z_e):
        if book in shared:
            shared[book].append(vectors)
        else:
            yield book, vectors
    for book, parts in shared.items():
        yield book, torch.cat(parts)
