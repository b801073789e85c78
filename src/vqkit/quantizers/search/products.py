"""Search by matrix products, a chunk at a time: runs wherever torch does."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.backends import cuda, mkldnn

from vqkit.quantizers.search.copies import are_copies, are_worth_finding
from vqkit.quantizers.search.rounding import decide, length, terms_in_order, uncertainty

SCORES_PER_CHUNK = 2**19  # 2 MB: what the matmul writes is still in cache when argmax reads it
MORE_ON_GPU = 16  # fewer, larger kernels
ENTRIES_PER_CHUNK = 2**11  # with more, chunks of so few vectors that the matmul slows down
GROUP = 64


@dataclass(frozen=True, slots=True)
class Table:
    """What vectors are multiplied by: a column (e, -|e|^2 / 2) for each centred entry e.

    Attributes:
        center: The mean of the entries. (D,)
        blocks: The columns in parts, each a whole number of groups wide; none wins that fills the
            last, or copies another. Each (D + 1, K)
        longest: Length of the longest centred entry. ()
    """

    center: Tensor
    blocks: tuple[Tensor, ...]
    longest: Tensor

    @classmethod
    def of(cls, entries: Tensor, *, without_copies: bool = False) -> "Table":
        """The table of entries (K, D); without copies, none wins that is equal to one before it."""
        center = entries.mean(0)  # far from the origin the products lose the digits that matter
        columns = (entries - center).T
        squares = columns.square().sum(0, keepdim=True)
        table = torch.cat([columns, squares * -0.5])
        if without_copies:
            table[-1].masked_fill_(are_copies(entries), -torch.inf)
        if num_missing := -len(entries) % GROUP:
            table = F.pad(table, (0, num_missing))
            table[-1, -num_missing:] = -torch.inf
        return cls(
            center, table.split(ENTRIES_PER_CHUNK, dim=1), length(squares.amax(), entries.shape[1])
        )

    @property
    def width(self) -> int:
        """Number of columns of the widest part."""
        return self.blocks[0].shape[1]


@dataclass(frozen=True, slots=True)
class Best:
    """The two largest of each row of scores.

    Attributes:
        first: The largest. (N,)
        index: Where it is, the lowest index on ties. (N,) int64
        second: The largest of the others. (N,)
    """

    first: Tensor
    index: Tensor
    second: Tensor

    @classmethod
    def empty(cls, num: int, like: Tensor) -> "Best":
        """Room for ``num`` vectors."""
        index = torch.empty(num, dtype=torch.int64, device=like.device)
        return cls(like.new_empty(num), index, like.new_empty(num))

    def put(self, rows: slice, other: "Best") -> None:
        """Writes what was found of some vectors."""
        self.first[rows], self.index[rows], self.second[rows] = (
            other.first,
            other.index,
            other.second,
        )

    def merged(self, other: "Best", offset: int) -> "Best":
        """The two largest of these columns and of others that begin at ``offset``."""
        return Best(
            torch.maximum(self.first, other.first),
            torch.where(other.first > self.first, other.index + offset, self.index),
            torch.maximum(
                torch.minimum(self.first, other.first), torch.maximum(self.second, other.second)
            ),
        )


def search(z: Tensor, entries: Tensor) -> Tensor:
    """The index of the nearest entry of each vector, the lowest one on ties.

    On a GPU the largest score decides, so that nobody waits for the device; ``fused`` does better.

    Args:
        z: Vectors. (N, D)
        entries: Codebook entries, of the same precision. (K, D)

    Returns:
        Indices. (N,) int64
    """
    table = Table.of(entries, without_copies=are_worth_finding(z, entries))
    num_scores = SCORES_PER_CHUNK * (MORE_ON_GPU if z.is_cuda else 1)
    num_rows = max(1, min(len(z), num_scores // table.width))
    rows = entries.new_ones(num_rows, entries.shape[1] + 1)
    room = entries.new_empty(num_rows * table.width)
    found = Best.empty(len(z), entries)
    squares = torch.empty_like(found.first)
    with full_precision(z.device.type):
        for first in range(0, len(z), num_rows):
            chunk = slice(first, first + num_rows)
            some = rows[: len(z[chunk])]
            torch.sub(z[chunk], table.center, out=some[:, :-1])
            found.put(chunk, largest_products(some, table.blocks, room))
            torch.sum(some[:, :-1].square(), 1, out=squares[chunk])
        if z.is_cpu:
            settle(z, entries, table, found, squares)
    return found.index.clamp_(max=len(entries) - 1)  # what is no number may choose what fills


def settle(z: Tensor, entries: Tensor, table: Table, found: Best, squares: Tensor) -> None:
    """Puts right the choices that rounding may have swapped.

    Args:
        z: Vectors. (N, D)
        entries: Codebook entries. (K, D)
        table: Theirs.
        found: The scores of the two best of each vector.
        squares: The squared length of each centred vector. (N,)
    """
    dim = entries.shape[1]
    apart = uncertainty(squares, found.first, table.longest, dim, terms_in_order(dim))
    unsure = (found.first - found.second > apart).logical_not_().nonzero().squeeze(1)
    num = max(1, SCORES_PER_CHUNK // 4 // len(entries))
    for some in unsure.split(num) if len(unsure) else ():
        rows = F.pad(z[some] - table.center, (0, 1), value=1.0)
        scores = all_products(rows, table.blocks)[:, : len(entries)]
        found.index[some] = decide(z[some], entries, scores, found.first[some] - apart[some])


def largest_products(rows: Tensor, blocks: tuple[Tensor, ...], room: Tensor) -> Best:
    """Which columns of a table have the largest products with each vector.

    Args:
        rows: Vectors. (N, D)
        blocks: The table in parts, each a whole number of groups wide. Each (D, K)
        room: Memory for the products with any of the parts; overwritten. (N K,)
    """
    best, offset = two_largest(_products(rows, blocks[0], room)), blocks[0].shape[1]
    for block in blocks[1:]:
        best = best.merged(two_largest(_products(rows, block, room)), offset)
        offset += block.shape[1]
    return best


def all_products(rows: Tensor, blocks: tuple[Tensor, ...]) -> Tensor:
    """The products (N, K) of vectors (N, D) with all parts (D, K) of a table."""
    widths = [block.shape[1] for block in blocks]
    scores = rows.new_empty(len(rows), sum(widths))
    for part, block in zip(scores.split(widths, 1), blocks, strict=True):
        torch.mm(rows, block, out=part)
    return scores


def _products(rows: Tensor, block: Tensor, room: Tensor) -> Tensor:
    """The products (N, K) of vectors (N, D) with a part of the table (D, K), kept in ``room``."""
    shape = (len(rows), block.shape[1])
    return torch.mm(rows, block, out=room[: shape[0] * shape[1]].view(shape))


def two_largest(scores: Tensor) -> Best:
    """Each row's two largest scores.

    Torch finds a maximum several times faster than its index, so the index is only sought inside
    the group that holds the maximum.

    Args:
        scores: One row per vector, a whole number of groups long. (N, K)
    """
    groups = scores.view(-1, GROUP)
    per_row = scores.shape[1] // GROUP
    maxima = groups.amax(-1).view(-1, per_row)
    group = maxima.max(-1, keepdim=True).indices
    rows = torch.arange(0, len(groups), per_row, device=scores.device)
    winners = groups.index_select(0, rows.add_(group.squeeze(1)))
    first, lane = winners.max(-1, keepdim=True)
    second = winners.scatter_(1, lane, -torch.inf).amax(-1)
    if per_row > 1:
        second = torch.maximum(second, maxima.scatter_(1, group, -torch.inf).amax(-1))
    return Best(first.squeeze(1), lane.add_(group, alpha=GROUP).squeeze(1), second)


@contextmanager
def full_precision(device_type: str) -> Iterator[None]:
    """Float32 products inside, whatever the user chose: TF32 and bfloat16 pick other entries.

    Autocast needs no care: it leaves products that are written ``out=`` as they are.
    """
    backends: Any = cuda if device_type == "cuda" else mkldnn
    backend = backends.matmul
    chosen = backend.fp32_precision
    backend.fp32_precision = "ieee"
    try:
        yield
    finally:
        backend.fp32_precision = chosen
