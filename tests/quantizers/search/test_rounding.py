"""What must hold for the bound on what rounding can swap."""

import pytest
import torch
from torch import Tensor

from vqkit.quantizers.search.products import Table
from vqkit.quantizers.search.rounding import (
    decide,
    farthest,
    terms_in_order,
    terms_on_tensor_cores,
    uncertainty,
)


@pytest.mark.parametrize("dim", [1, 8, 64, 512])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_no_score_is_off_by_more_than_half_the_bound(dim: int, offset: float):
    """Against scores in float64 of the vectors as they are, centred in float64."""
    torch.manual_seed(0)
    z, entries = 3 * torch.randn(500, dim) + offset, torch.randn(192, dim) + offset
    table = Table.of(entries)
    (block,) = table.blocks
    rows = torch.cat([z - table.center, torch.ones(500, 1)], 1)
    center = table.center.double()
    points, columns = z.double() - center, entries.double() - center
    exact = points @ columns.T - columns.square().sum(1) / 2
    squares = rows[:, :-1].square().sum(1)
    any_score = torch.full_like(squares, -torch.inf)
    bound = uncertainty(squares, any_score, table.longest, dim, terms_in_order(dim))
    assert ((rows @ block - exact).abs() <= bound.unsqueeze(1) / 2).all()
    assert (bound < 1e-5 * dim * (points.norm(dim=1) + 10) * columns.norm(dim=1).max()).all()


@pytest.mark.parametrize("sign", [-1, 0, 1])
@pytest.mark.parametrize("terms", [11, 74, 5000])
def test_an_entry_is_never_farther_than_its_score_allows_however_it_was_rounded(
    terms: int, sign: int
):
    """Entries on vectors, near them and far away, with scores that are as wrong as they may be."""
    z = torch.randn(4000, 3).double()
    entries = z + 10.0 ** (12 * torch.rand(4000, 1) - 6) * torch.randn(4000, 3)
    lengths, own = z.norm(dim=1), entries.norm(dim=1)
    error = terms * 2.0**-24 * own * (lengths + own)
    scores = (z * entries).sum(1) - own.square() / 2 + sign * error
    found = farthest(lengths.square().float(), scores.float(), terms)
    assert (found >= (z - entries).norm(dim=1)).all()


def test_an_entry_far_from_all_others_puts_no_choice_in_doubt():
    z, entries = torch.randn(500, 8), torch.randn(64, 8)
    squares, best = z.square().sum(1), (z @ entries.T - entries.square().sum(1) / 2).amax(1)
    usual, far = entries.norm(dim=1).max(), torch.tensor(1e6)
    terms = terms_in_order(8)
    bound = uncertainty(squares, best, far, 8, terms)
    assert (bound <= 4 * uncertainty(squares, best, usual, 8, terms)).all()


def test_distance_decides_only_among_scores_that_may_be_the_best():
    z = torch.tensor([[0.0], [0.0]])
    entries = torch.tensor([[3.0], [1.0], [2.0]])
    scores = torch.tensor([[5.0, 1.0, 4.0], [5.0, 1.0, 4.0]])
    assert decide(z, entries, scores, torch.tensor([3.0, 0.0])).tolist() == [2, 1]


def cut(x: Tensor, exponent: Tensor) -> Tensor:
    """What is left of numbers whose last of 24 digits is that of 2^exponent. (...) float64"""
    unit = torch.exp2(exponent.double() - 24)
    return (x / unit).trunc() * unit


def two_parts(x: Tensor) -> tuple[Tensor, Tensor]:
    """The two numbers of 11 digits, to nearest, that the fused search multiplies. (...) float64"""
    kept, exponent = torch.frexp(x.double())
    big = torch.ldexp((kept * 2**11).round() / 2**11, exponent)
    kept, exponent = torch.frexp(x.double() - big)
    return big, torch.ldexp((kept * 2**11).round() / 2**11, exponent)


def on_tensor_cores(pairs: list[tuple[Tensor, Tensor]], at_once: int) -> Tensor:
    """Sums of products as a unit forms them that adds some at once and cuts off, never rounds."""
    total = torch.zeros(len(pairs[0][0]), len(pairs[0][1]), dtype=torch.float64)
    for x, y in pairs:
        for d in range(0, x.shape[1], at_once):
            products = x[:, None, d : d + at_once] * y[None, :, d : d + at_once]
            terms = torch.cat([total.unsqueeze(-1), products], -1)
            largest = torch.frexp(terms.abs().amax(-1, keepdim=True)).exponent
            total = cut(terms, largest).sum(-1)
            total = cut(total, torch.frexp(total).exponent)
    return total


@pytest.mark.parametrize("at_once", [2, 4, 8])
@pytest.mark.parametrize(("dim", "depth"), [(16, 16), (64, 64), (320, 32)])
@pytest.mark.parametrize("positive", [False, True])
def test_no_score_on_tensor_cores_is_off_by_more_than_half_the_bound(
    dim: int, depth: int, at_once: int, positive: bool
):
    """Numbers of one sign are the worst: then every cut is to the same side."""
    z, entries = torch.randn(20, dim), torch.randn(24, dim)
    if positive:
        z, entries = z.abs(), entries.abs()
    half = entries.square().sum(1) / 2
    scores = torch.zeros(20, 24)
    for x, y in zip(z.split(depth, 1), entries.split(depth, 1), strict=True):
        (z_big, z_small), (e_big, e_small) = two_parts(x), two_parts(y)
        pairs = [(z_small, e_big), (z_big, e_small), (z_big, e_big)]
        scores += on_tensor_cores(pairs, at_once).float()
    exact = z.double() @ entries.double().T - entries.double().square().sum(1) / 2
    lengths, longest = z.norm(dim=1), entries.norm(dim=1).max()
    squares, terms = lengths.square(), terms_on_tensor_cores(dim, depth)
    any_score = torch.full_like(squares, -torch.inf)
    bound = uncertainty(squares, any_score, longest, dim, terms).unsqueeze(1)
    assert ((scores - half - exact).abs() <= bound / 2).all()
    assert (bound < 1e-5 * (depth + 10) * longest * (lengths + longest).unsqueeze(1)).all()
