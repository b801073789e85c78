"""What float32 cannot tell: how close two scores must be, and who decides then."""

import torch
from torch import Tensor

ELEMENTS_PER_CHUNK = 2**19  # of vectors by entries by coordinates; 4 MB in float64


def terms_in_order(dim: int) -> int:
    """How many roundings one score takes when each product and sum is rounded to the nearest.

    A score is a sum of D + 1 products, in any order, of numbers that were rounded when they were
    centred: it is off by at most (D + 10) u |e| (|z| + |e|), u being half the spacing of numbers at
    1 (Accuracy and Stability of Numerical Algorithms, section 3.1).
    """
    return dim + 10


def terms_on_tensor_cores(dim: int, depth: int) -> int:
    """The same on tensor cores, in the fused search.

    Each number is a sum of two of 11 digits, to nearest: what is left, and the product of the two
    small parts, which is not formed, are below 2^-22 |z_d e_d| each, 3 of these 12 u. Tensor cores
    multiply exactly and add b products to a sum at once: they shift all to the largest of them,
    cut off what is then below its last digit, and cut off again what the result cannot hold (Fasi
    et al., https://doi.org/10.7717/peerj-cs.330; Khattak and Mikaitis,
    https://arxiv.org/abs/2512.07004). Without further digits that is b + 2 cuts of at most 2 u
    times the sum of absolute values s: in d / b steps at most 4 d u s for any b from 2 up, 4 being
    the least known. The sums of small parts lose 2^-10 of that. Each chunk of the coordinates
    starts from 0, so d is at most its depth, and s sums up to no more than |z||e|. Chunks are then
    added, D / d roundings; |e|^2 / 2 takes D / d and d more, centring and the rest fewer than 20.

    Args:
        dim: Length D of the vectors.
        depth: Coordinates in a chunk.
    """
    return 5 * min(dim, depth) + 2 * -(-dim // depth) + 40


def uncertainty(squares: Tensor, best: Tensor, longest: Tensor, dim: int, terms: int) -> Tensor:
    """How far apart two scores must lie for rounding not to have swapped them.

    Each is off by at most terms u |e| (|z| + |e|), so their difference by twice that. Only entries
    count that may be the nearest: one entry far away from all leaves nothing in doubt.

    Args:
        squares: Squared length of each centred vector. (N,)
        best: Its largest score, rounded. (N,)
        longest: Length of the longest centred entry. ()
        dim: Length D of the vectors.
        terms: Roundings of one score.

    Returns:
        Differences of scores. (N,)
    """
    kind, lengths = torch.finfo(squares.dtype), length(squares, dim)
    reach = torch.minimum(longest, lengths + farthest(squares, best, terms))
    relative = (lengths + reach) * (reach * (terms * kind.eps))
    apart = relative + 4 * terms * kind.tiny  # products below it are lost, or flushed to 0
    # Beyond, squares of some entry may have overflowed.
    return torch.where(lengths + longest < kind.max**0.5 / 4, apart, torch.inf)


def farthest(squares: Tensor, best: Tensor, terms: int) -> Tensor:
    """How far from a vector its nearest entry may be at most.

    Not farther than the one of the largest score s, at a distance d. d^2 = |z|^2 - 2 s, and s is
    off by at most terms u (2 |z| + d)^2 <= terms u (8 |z|^2 + 2 d^2), since no entry is longer than
    |z| and its distance together. So d^2 (1 - 4 terms u) <= |z|^2 - 2 s + 16 terms u |z|^2, and of
    the shares twice as much is taken, for the roundings of |z|^2 and of this.

    Args:
        squares: Squared length of each centred vector. (N,)
        best: Its largest score, rounded. (N,)
        terms: Roundings of one score.

    Returns:
        Distances. (N,)
    """
    share = 16 * terms * torch.finfo(squares.dtype).eps
    gaps = (squares - 2 * best).clamp(min=0) * (1 + share) + squares * share
    return gaps.sqrt()


def length(squares: Tensor, dim: int) -> Tensor:
    """A bound on lengths from sums of D squares, each of which may have been too small to keep.

    Args:
        squares: The sums. (...)
        dim: Number of squares D.

    Returns:
        (...)
    """
    return (squares + dim * torch.finfo(squares.dtype).tiny).sqrt()


def decide(z: Tensor, entries: Tensor, scores: Tensor, least: Tensor) -> Tensor:
    """The nearest by distance in float64, of the entries whose score is not less than some number.

    Args:
        z: Vectors. (N, D)
        entries: Codebook entries. (K, D)
        scores: That of every entry, rounded. (N, K)
        least: For each vector; what is no number excludes none. (N,)

    Returns:
        Indices, the lowest on ties, and 0 for a vector that is no number. (N,) int64
    """
    indices = torch.zeros(len(z), dtype=torch.int64, device=z.device)
    size, dim = entries.shape
    num = max(1, ELEMENTS_PER_CHUNK // (size * dim))
    for first in range(0, len(z), num):
        block = slice(first, first + num)
        row, entry = (~(scores[block] < least[block].unsqueeze(1))).nonzero().unbind(1)
        # Summed one by one, as the compiled search does: equal distances stay equal in both.
        gaps = (z[block][row].double() - entries[entry].double()).square_().cumsum_(-1)[:, -1]
        gaps.nan_to_num_(torch.inf)
        closest = gaps.new_full((len(z[block]),), torch.inf).scatter_reduce(0, row, gaps, "amin")
        winners = (gaps == closest[row]).logical_and_(gaps < torch.inf)
        found = torch.full_like(indices[block], size)
        found.scatter_reduce_(0, row[winners], entry[winners], "amin")
        indices[block] = found.masked_fill_(found == size, 0)
    return indices
