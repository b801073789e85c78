"""The kernels of the fused search, in Triton: imported only where that is installed.

``fused.py`` calls them and says what they do together. N vectors meet K entries in P parts, padded
to whole tiles of COLUMNS; D coordinates are padded to CHUNKS times DEPTH.
"""

# To pyright a function in Triton never returns, for Python must not call it.
# pyright: reportGeneralTypeIssues=false

import triton
import triton.language as tl

INF = tl.constexpr(float("inf"))
NOWHERE = tl.constexpr(2**31 - 1)
EPS = tl.constexpr(2.0**-23)  # the spacing of float32 numbers at 1
TINY = tl.constexpr(2.0**-126)  # the smallest normal one


@triton.jit
def _rounded(x):
    """To the 11 digits that a tensor core keeps of a float32; halves go away from 0."""
    bits = x.to(tl.int32, bitcast=True)
    return ((bits + 0x1000) & -0x2000).to(tl.float32, bitcast=True)


@triton.jit
def _split(x):
    """Two numbers of 11 digits whose sum is x up to 2^-23 |x|."""
    big = _rounded(x)
    return big, _rounded(x - big)


@triton.jit
def _centred(z, center, rows, inside, chunk, dim, DEPTH: tl.constexpr):
    """A chunk of the coordinates of some vectors, less the center; 0 outside. (ROWS, DEPTH)"""
    d = chunk * DEPTH + tl.arange(0, DEPTH)
    within = inside[:, None] & (d < dim)[None, :]
    x = tl.load(z + rows[:, None] * dim + d[None, :], mask=within, other=0.0)
    c = tl.load(center + d, mask=d < dim, other=0.0)
    return tl.where(within, x - c[None, :], 0.0)


@triton.jit
def _products(z_big, z_small, big, small, offsets):
    """Products with a tile of entries, of which only the smallest of four parts is left out."""
    e_big = tl.load(big + offsets)
    e_small = tl.load(small + offsets)
    sums = tl.dot(z_small, e_big, input_precision="tf32")
    sums = tl.dot(z_big, e_small, sums, input_precision="tf32")
    return tl.dot(z_big, e_big, sums, input_precision="tf32")


@triton.jit
def _all_products(
    z, center, rows, inside, dim, big, small, tile,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Products of vectors with a tile of entries, chunk by chunk. (ROWS, COLUMNS)"""
    start = tile * tl.full((), COLUMNS * DEPTH * CHUNKS, tl.int64)
    offsets = tl.arange(0, COLUMNS)[None, :] * (DEPTH * CHUNKS) + tl.arange(0, DEPTH)[:, None]
    sums = tl.zeros((ROWS, COLUMNS), tl.float32)
    for chunk in range(CHUNKS):
        z_big, z_small = _split(_centred(z, center, rows, inside, chunk, dim, DEPTH))
        here = start + chunk * DEPTH
        sums += _products(z_big, z_small, big + here, small + here, offsets)
    return sums


@triton.jit
def _merged(first, second, where, other_first, other_second, other_where):
    """The two largest scores of two sets, and where the largest is: the first set's on ties."""
    better = other_first > first
    second = tl.maximum(tl.minimum(first, other_first), tl.maximum(second, other_second))
    return tl.maximum(first, other_first), second, tl.where(better, other_where, where)


@triton.jit
def _two_largest(scores, columns):
    """Each row's two largest scores and the lowest column of the largest. (ROWS, COLUMNS)"""
    first = tl.max(scores, 1)
    column = tl.min(tl.where(scores == first[:, None], columns, NOWHERE), 1)
    second = tl.max(tl.where(columns == column[:, None], -INF, scores), 1)
    return first, second, column


@triton.jit
def prepare(
    entries, center, big, small, half, size, dim,
    ROWS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Centres entries, splits them, and takes half their squared lengths; inf where none is."""
    k = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    squares = tl.zeros((ROWS,), tl.float32)
    for chunk in range(CHUNKS):
        x = _centred(entries, center, k, k < size, chunk, dim, DEPTH)
        squares += tl.sum(x * x, 1)
        x_big, x_small = _split(x)
        d = chunk * DEPTH + tl.arange(0, DEPTH)
        offsets = k[:, None] * (DEPTH * CHUNKS) + d[None, :]
        tl.store(big + offsets, x_big)
        tl.store(small + offsets, x_small)
    tl.store(half + k, tl.where(k < size, 0.5 * squares, INF))


@triton.jit
def score(
    z, center, big, small, half, first_out, second_out, where_out, num, dim, num_tiles, in_part,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
    LANES: tl.constexpr,
):  # fmt: skip
    """The two best scores of each vector among a part of the entries. Each out (P, N)

    With LANES, every column of a tile remembers the best that passed in its place, which spares
    sums over the tile; without, each tile is reduced at once, which spares registers.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < num
    begin = tl.program_id(1) * in_part
    end = tl.minimum(begin + in_part, num_tiles)
    lanes = tl.arange(0, COLUMNS)[None, :]
    offsets = tl.arange(0, COLUMNS)[None, :] * DEPTH + tl.arange(0, DEPTH)[:, None]
    if CHUNKS == 1:
        z_big, z_small = _split(_centred(z, center, rows, inside, 0, dim, DEPTH))
    if LANES:
        first = tl.full((ROWS, COLUMNS), -INF, tl.float32)
        where = tl.zeros((ROWS, COLUMNS), tl.int32) + begin
    else:
        first = tl.full((ROWS,), -INF, tl.float32)
        where = tl.zeros((ROWS,), tl.int32) + begin * COLUMNS
    second = first
    for tile in range(begin, end):
        if CHUNKS == 1:
            start = tile * tl.full((), COLUMNS * DEPTH, tl.int64)
            scores = _products(z_big, z_small, big + start, small + start, offsets)
        else:
            scores = _all_products(
                z, center, rows, inside, dim, big, small, tile, ROWS, COLUMNS, DEPTH, CHUNKS
            )
        columns = tile * COLUMNS + lanes
        scores -= tl.load(half + columns)
        if LANES:
            where = tl.where(scores > first, tile, where)
            second = tl.maximum(second, tl.minimum(first, scores))
            first = tl.maximum(first, scores)
        else:
            best, next_best, column = _two_largest(scores, columns)
            first, second, where = _merged(first, second, where, best, next_best, column)
    if LANES:
        best, next_best, column = _two_largest(first, where * COLUMNS + lanes)
        second = tl.maximum(next_best, _of_winner(second, where * COLUMNS + lanes, column))
        first, where = best, column
    out = tl.program_id(1).to(tl.int64) * num + rows
    tl.store(first_out + out, first, mask=inside)
    tl.store(second_out + out, second, mask=inside)
    tl.store(where_out + out, where, mask=inside)


@triton.jit
def _of_winner(second, columns, column):
    """The second best in the lane that won. (ROWS, COLUMNS) -> (ROWS,)"""
    return tl.max(tl.where(columns == column[:, None], second, -INF), 1)


@triton.jit
def settle(
    z, center, squares, firsts, seconds, wheres, indices, doubted, least, counter,
    num, dim, size, num_parts, terms,
    ROWS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Joins what the parts found; lists the vectors whose choice rounding may have swapped.

    The rule is that of ``rounding.uncertainty``, and the choice of what is no number is 0.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < num
    first = tl.load(firsts + rows, mask=inside, other=0.0)
    second = tl.load(seconds + rows, mask=inside, other=0.0)
    where = tl.load(wheres + rows, mask=inside, other=0)
    for part in range(1, num_parts):
        at = rows + num * tl.full((), 1, tl.int64) * part
        f = tl.load(firsts + at, mask=inside, other=0.0)
        s = tl.load(seconds + at, mask=inside, other=0.0)
        w = tl.load(wheres + at, mask=inside, other=0)
        first, second, where = _merged(first, second, where, f, s, w)
    square = tl.zeros((ROWS,), tl.float32)
    wrong = tl.zeros((ROWS,), tl.int32)
    for chunk in range(CHUNKS):
        d = chunk * DEPTH + tl.arange(0, DEPTH)
        within = inside[:, None] & (d < dim)[None, :]
        x = tl.load(z + rows[:, None] * dim + d[None, :], mask=within, other=0.0)
        wrong = tl.maximum(wrong, tl.max(tl.where(tl.abs(x) < INF, 0, 1), 1))
        x = _centred(z, center, rows, inside, chunk, dim, DEPTH)
        square += tl.sum(x * x, 1)
    length = tl.sqrt(square + dim * TINY)
    longest = tl.sqrt(2 * tl.load(squares) + dim * TINY)
    # Only entries count that may be the nearest: see ``rounding.farthest``.
    share = 16 * terms * EPS
    gap = tl.maximum(square - 2 * first, 0.0) * (1 + share) + square * share
    reach = tl.minimum(longest, length + tl.sqrt(gap))
    apart = (length + reach) * reach * (terms * EPS) + (1 + length + longest) * (4 * terms * TINY)
    # 16 times what any product or sum can reach: infinite, and so in doubt, where one overflowed.
    apart = tl.where((length + longest) * longest * 16 < INF, apart, INF)
    good = inside & (wrong == 0)
    unsure = good & ((first - second > apart) == 0)
    index = tl.where(good, tl.minimum(where, size - 1), 0)
    tl.store(indices + rows, index.to(tl.int64), mask=inside)
    flags = unsure.to(tl.int32)
    at = tl.atomic_add(counter, tl.sum(flags, 0)) + tl.cumsum(flags, 0) - 1
    tl.store(doubted + at, rows.to(tl.int32), mask=unsure)
    tl.store(least + at, first - apart, mask=unsure)


@triton.jit
def _num_parts(num_groups, num_programs, num_tiles):
    """Into how many parts the entries go so that few groups of vectors keep all programs busy."""
    return tl.minimum(tl.maximum(num_programs // tl.maximum(num_groups, 1), 1), num_tiles)


@triton.jit
def rescore(
    z, entries, center, big, small, half, doubted, least, counter, nearest_out, index_out,
    dim, size, num_tiles,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr, CHUNKS: tl.constexpr,
):  # fmt: skip
    """Distances in float64 to the entries that may be the nearest of the vectors in doubt.

    As many programs as there were started share the work, whose amount only the device knows.
    """
    count = tl.load(counter)
    num_groups = tl.cdiv(count, ROWS)
    parts = _num_parts(num_groups, tl.num_programs(0), num_tiles)
    in_part = tl.cdiv(num_tiles, parts)
    for item in range(tl.program_id(0), num_groups * parts, tl.num_programs(0)):
        begin = (item % parts) * in_part
        at = (item // parts) * ROWS + tl.arange(0, ROWS)
        inside = at < count
        rows = tl.load(doubted + at, mask=inside, other=0).to(tl.int64)
        bound = tl.load(least + at, mask=inside, other=0.0)
        nearest = tl.full((ROWS,), INF, tl.float64)
        index = tl.zeros((ROWS,), tl.int32)
        for tile in range(begin, tl.minimum(begin + in_part, num_tiles)):
            columns = tile * COLUMNS + tl.arange(0, COLUMNS)
            scores = _all_products(
                z, center, rows, inside, dim, big, small, tile, ROWS, COLUMNS, DEPTH, CHUNKS
            )
            scores -= tl.load(half + columns)[None, :]
            able = (scores < bound[:, None]) == 0  # what is no number excludes nothing
            able = able & inside[:, None] & (columns < size)[None, :]
            if tl.max(tl.max(able.to(tl.int32), 1), 0) > 0:
                gaps = _distances(z, entries, rows, columns, size, dim, ROWS, COLUMNS)
                gaps = tl.where(able & (gaps == gaps), gaps, INF)
                closest = tl.min(gaps, 1)
                column = tl.where(gaps == closest[:, None], columns[None, :], NOWHERE)
                closer = closest < nearest
                index = tl.where(closer, tl.min(column, 1), index)
                nearest = tl.where(closer, closest, nearest)
        out = at.to(tl.int64) * parts + item % parts
        tl.store(nearest_out + out, nearest, mask=inside)
        tl.store(index_out + out, index, mask=inside)


@triton.jit
def _distances(z, entries, rows, columns, size, dim, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """Squared distances in float64, summed one by one as on the CPU. (ROWS, COLUMNS)"""
    sums = tl.zeros((ROWS, COLUMNS), tl.float64)
    k = tl.minimum(columns, size - 1).to(tl.int64)
    for d in range(dim):
        x = tl.load(z + rows * dim + d).to(tl.float64)
        y = tl.load(entries + k * dim + d).to(tl.float64)
        gap = x[:, None] - y[None, :]
        sums += gap * gap
    return sums


@triton.jit
def finish(
    doubted, counter, nearest, index, indices, num_programs, num_tiles,
    GROUP: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """Joins the parts of ``rescore``, which had groups of GROUP vectors; lowest index on ties."""
    count = tl.load(counter)
    parts = _num_parts(tl.cdiv(count, GROUP), num_programs, num_tiles)
    for start in range(tl.program_id(0) * ROWS, count, tl.num_programs(0) * ROWS):
        at = start + tl.arange(0, ROWS)
        inside = at < count
        least = tl.full((ROWS,), INF, tl.float64)
        chosen = tl.zeros((ROWS,), tl.int32)
        for part in range(parts):
            of = at.to(tl.int64) * parts + part
            gap = tl.load(nearest + of, mask=inside, other=INF)
            chosen = tl.where(gap < least, tl.load(index + of, mask=inside, other=0), chosen)
            least = tl.minimum(least, gap)
        rows = tl.load(doubted + at, mask=inside, other=0)
        tl.store(indices + rows, chosen.to(tl.int64), mask=inside)
