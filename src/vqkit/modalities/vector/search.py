"""Search for the nearest of many vectors that are kept as codes."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqkit.quantizers.search import full_precision

SCORES_PER_CHUNK = 2**22
PROBES = 64  # rows of codes by which it is tested that vectors are sums
TOLERANCE = 1e-4  # of the spread of the vectors, for the rounding of a decoder
SMALL = ((256, torch.uint8), (2**15, torch.int16), (2**31, torch.int32))
ROWS = 256  # queries at a time


@dataclass(frozen=True, slots=True)
class Tables:
    """What each code adds to a vector, where vectors are sums.

    Attributes:
        base: The vector of all codes 0. (D,)
        tables: What each code adds to it; 0 for code 0. One (K, D) for each codebook.
    """

    base: Tensor
    tables: tuple[Tensor, ...]

    @classmethod
    def of(cls, decode: Callable[[Tensor], Tensor], sizes: Sequence[int]) -> "Tables":
        """The tables of a decoder of codes, found by asking for each code alone.

        Args:
            decode: From codes (N, Q) int64 to vectors (N, D).
            sizes: Number of entries of each codebook.

        Raises:
            ValueError: If vectors are no such sums: the decoder is a network, say.
        """
        nothing = torch.zeros(1, len(sizes), dtype=torch.int64)
        base = decode(nothing)[0]
        tables = []
        for q, size in enumerate(sizes):
            alone = nothing.repeat(size, 1)
            alone[:, q] = torch.arange(size)
            tables.append(decode(alone) - base)
        found = cls(base, tuple(tables))
        steps = torch.arange(1, PROBES + 1).unsqueeze(1) * torch.arange(1, 2 * len(sizes), 2) * 7919
        probes = steps % torch.tensor(sizes)
        vectors = decode(probes)
        spread = sum(table.square().sum(-1).mean() for table in tables) ** 0.5
        rounding = 8 * torch.finfo(base.dtype).eps * vectors.norm(dim=-1)
        gaps = (found.decode(probes) - vectors).norm(dim=-1)
        if (gaps > TOLERANCE * spread + len(tables) * rounding).any():
            raise ValueError(
                "vectors are no sums of what each code stands for: they come out of a network; "
                "search among the decoded vectors, or train with model.network.type=none"
            )
        return found

    def decode(self, indices: Tensor) -> Tensor:
        """The vectors of codes. (N, Q) int64 -> (N, D)"""
        parts = (
            F.embedding(some, t) for some, t in zip(indices.unbind(-1), self.tables, strict=True)
        )
        return self.base + torch.stack(list(parts)).sum(0)


class CodeIndex:
    """Vectors that are kept as codes, and searched by sums of table entries.

    Product Quantization for Nearest Neighbor Search, section III-A, the asymmetric distance,
    https://doi.org/10.1109/TPAMI.2010.57. For a query q and a vector x = base + sum of t,

        |q - x|^2 = |q - base|^2 - 2 sum (q - base).t + |x - base|^2:

    the products are found once for each entry, the last term is kept beside the codes.

    Args:
        tables: What each code adds to a vector.

    Attributes:
        codes: Of all vectors, in the smallest integers that hold them. (N, Q)
        squares: |x - base|^2 of each. (N,)
    """

    def __init__(self, tables: Tables) -> None:
        self.tables = tables
        largest = max(map(len, tables.tables))
        dtype = next(kind for size, kind in SMALL if largest <= size)
        self.codes = torch.zeros(0, len(tables.tables), dtype=dtype)
        self.squares = tables.base.new_zeros(0)

    def __len__(self) -> int:
        return len(self.codes)

    @torch.no_grad()
    def add(self, indices: Tensor) -> None:
        """Adds vectors by their codes; they are numbered in the order in which they come. (N, Q)"""
        vectors = self.tables.decode(indices.long()) - self.tables.base
        self.codes = torch.cat([self.codes, indices.to(self.codes.dtype)])
        self.squares = torch.cat([self.squares, vectors.square().sum(-1)])

    @torch.no_grad()
    def search(self, queries: Tensor, num: int) -> tuple[Tensor, Tensor]:
        """The nearest vectors of each query, the nearest first.

        Args:
            queries: Vectors as they are, no codes. (B, D)
            num: How many k.

        Returns:
            Squared distances from what the codes stand for, and numbers of the vectors. (B, k),
            (B, k) int64; fewer where there are fewer vectors.
        """
        tables = torch.cat(self.tables.tables)
        sizes = torch.tensor([0, *(len(table) for table in self.tables.tables[:-1])])
        places = self.codes.long() + sizes.cumsum(0)

        def scores(some: Tensor) -> Iterator[Tensor]:
            products = -2 * tables @ (some - self.tables.base).T  # (entries of all, B)
            for rows in split(len(places), len(some)):
                sums = F.embedding_bag(places[rows], products, mode="sum")
                yield (sums + self.squares[rows].unsqueeze(1)).T

        with full_precision(tables.device.type):
            found = [best(scores(some), num) for some in queries.to(tables).split(ROWS)]
        squares, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
        own = (queries.to(tables) - self.tables.base).square().sum(-1, keepdim=True)
        return (squares + own).clamp(min=0), numbers


@torch.no_grad()
def nearest_vectors(vectors: Tensor, queries: Tensor, num: int) -> tuple[Tensor, Tensor]:
    """The nearest vectors of each query by the plain distance, as ``CodeIndex.search``.

    Args:
        vectors: What is searched. (N, D)
        queries: (B, D)
        num: How many k.
    """
    center = vectors.mean(0)
    vectors, queries = vectors - center, queries.to(vectors) - center
    squares = vectors.square().sum(-1)

    def scores(some: Tensor) -> Iterator[Tensor]:
        for rows in split(len(vectors), len(some)):
            yield squares[rows] - 2 * some @ vectors[rows].T

    with full_precision(vectors.device.type):
        found = [best(scores(some), num) for some in queries.split(ROWS)]
    lengths, numbers = (torch.cat(parts) for parts in zip(*found, strict=True))
    return (lengths + queries.square().sum(-1, keepdim=True)).clamp(min=0), numbers


def split(num: int, width: int) -> Iterator[slice]:
    """Parts of a range, such that a part times a width is no large matrix."""
    step = max(1, SCORES_PER_CHUNK // max(1, width))
    return (slice(first, first + step) for first in range(0, num, step))


def best(scores: Iterator[Tensor], num: int) -> tuple[Tensor, Tensor]:
    """The smallest of scores that come in parts, each (B, n): values and places, (B, k) each.

    Equal ones are in the order of their places.
    """
    values, places, first = None, None, 0
    for part in scores:
        _, where = part.topk(min(num, part.shape[1]), largest=False)
        where = where.sort(dim=1).values
        few = part.gather(1, where)
        where, first = where + first, first + part.shape[1]
        if values is not None and places is not None:
            few, where = torch.cat([values, few], 1), torch.cat([places, where], 1)
        order = few.argsort(dim=1, stable=True)[:, :num]
        values, places = few.gather(1, order), where.gather(1, order)
    assert values is not None
    assert places is not None
    return values, places
