"""What must hold for drawing by inverse cumulative distribution."""

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.testing import assert_close

from vqkit.priors import choose
from vqkit.priors.sampling import probabilities

INF = math.inf
LARGEST_U = 1 - 2**-53


def grid(num: int) -> Tensor:
    """Numbers that lie evenly between 0 and 1. (num,) float64"""
    return (torch.arange(num).double() + 0.5) / num


def choose_one(p: list[float], u: float, **options) -> int:
    return int(choose(torch.tensor(p).double().log(), torch.tensor(u).double(), **options))


def distribution_by_hand(
    p: list[float], temperature: float, top_k: int | None, top_p: float | None
) -> list[float]:
    """What is left of a distribution, written out with sorted lists."""
    powers = [x ** (1 / temperature) for x in p]
    order = sorted(range(len(p)), key=lambda i: (-powers[i], i))[:top_k]
    total, before, kept = sum(powers[i] for i in order), 0.0, []
    for i in order:
        if top_p is None or before < top_p or not kept:
            kept.append(i)
        before += powers[i] / total
    total = sum(powers[i] for i in kept)
    return [powers[i] / total if i in kept else 0.0 for i in range(len(p))]


OPTIONS = [
    (1.0, None, None),
    (0.5, None, None),
    (2.0, 3, None),
    (1.0, 1, None),
    (1.0, 99, None),
    (1.0, None, 0.61),
    (1.0, None, 1.0),
    (1.0, None, 0.0),
    (1.5, 4, 0.7),
]


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), OPTIONS)
def test_the_distribution_left_is_that_written_out(
    temperature: float, top_k: int | None, top_p: float | None
):
    p = [0.05, 0.3, 0.1, 0.25, 0.0, 0.2, 0.1]
    expected = torch.tensor(distribution_by_hand(p, temperature, top_k, top_p)).double()
    logits = torch.tensor(p).double().log() + 7  # up to a constant
    left = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
    assert_close(left, expected.double(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize(("temperature", "top_k", "top_p"), OPTIONS)
def test_entries_come_in_their_order_and_as_often_as_they_are_probable(
    temperature: float, top_k: int | None, top_p: float | None
):
    num, options = 10_000, {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    logits = torch.randn(9, generator=torch.Generator().manual_seed(0))
    chosen = choose(logits.expand(num, -1), grid(num), **options)
    assert (chosen.diff() >= 0).all()
    found = chosen.bincount(minlength=9).double() / num
    assert_close(found, probabilities(logits, **options), rtol=0, atol=1.01 / num)


@settings(deadline=None, max_examples=200)
@given(
    weights=st.lists(st.integers(0, 6), min_size=1, max_size=9).filter(any),
    u=st.floats(0, 1, exclude_max=True),
)
def test_every_choice_is_that_of_exact_fractions(weights: list[int], u: float):
    logits = torch.tensor(weights).double().log()
    exact = [Fraction(weight, sum(weights)) for weight in weights]
    at = [sum(exact[: i + 1], Fraction(0)) for i in range(len(exact))]
    if min(abs(edge - Fraction(u)) for edge in at[:-1] or [Fraction(2)]) < Fraction(1, 10**12):
        return  # the sum of float64 may round to either side of u
    expected = next(i for i, edge in enumerate(at) if edge > Fraction(u))
    assert int(choose(logits, torch.tensor(u).double())) == expected


@pytest.mark.parametrize("u", [0.0, 2**-53, 0.5, LARGEST_U])
@pytest.mark.parametrize("where", [0, 1, 2])
def test_an_impossible_entry_is_never_drawn(u: float, where: int):
    p = [0.0, 0.0, 0.0]
    p[where] = 1.0
    assert choose_one(p, u) == where


def test_the_ends_of_u_draw_the_first_and_the_last_possible_entry():
    p = [0.0, 0.1, 0.2, 0.7, 0.0]
    assert choose_one(p, 0.0) == 1
    assert choose_one(p, LARGEST_U) == 3


def test_an_edge_belongs_to_the_entry_above_it():
    assert [choose_one([0.25, 0.25, 0.5], u) for u in (0.25, 0.5)] == [1, 2]


def test_the_last_u_draws_a_possible_entry_of_a_large_codebook():
    logits = torch.randn(3, 50_000, generator=torch.Generator().manual_seed(0))
    logits[:, -10:] = -INF
    chosen = choose(logits, torch.full((3,), LARGEST_U).double())
    assert (chosen <= 49_989).all()
    assert (chosen > 49_000).all()


def test_on_ties_the_lowest_indices_are_left():
    logits = torch.tensor([1.0, 3.0, 2.0, 2.0, 2.0])
    assert (probabilities(logits, top_k=3) > 0).tolist() == [False, True, True, True, False]
    assert (probabilities(torch.zeros(4), top_p=0.5) > 0).tolist() == [True, True, False, False]


def test_more_than_the_codebook_holds_leaves_all():
    assert_close(probabilities(torch.arange(3.0), top_k=9), probabilities(torch.arange(3.0)))


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_the_most_extreme_temperatures_stay_finite(scale: float):
    logits = scale * torch.tensor([1.0, 3.0, -INF, 2.0])
    assert choose(logits.expand(50, -1), grid(50), temperature=1e-300).unique().tolist() == [1]
    hot = choose(logits.expand(50, -1), grid(50), temperature=1e300).unique().tolist()
    assert hot == [0, 1, 3]


def test_any_axes_are_batch():
    logits = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0))
    u = grid(6).reshape(2, 3)
    rows = [choose(logits[i, j], u[i, j]) for i in range(2) for j in range(3)]
    assert torch.equal(choose(logits, u), torch.stack(rows).reshape(2, 3))


@pytest.mark.parametrize("value", [math.nan, INF])
def test_logits_that_are_not_finite_are_refused(value: float):
    with pytest.raises(ValueError, match="diverged"):
        choose(torch.tensor([[0.0, 1.0], [0.0, value]]), torch.full((2,), 0.5).double())


def test_a_row_without_any_possible_entry_is_refused():
    with pytest.raises(ValueError, match="only -inf"):
        choose(torch.full((3,), -INF), torch.tensor(0.5).double())


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("temperature", 0.0),
        ("temperature", INF),
        ("temperature", math.nan),
        ("top_k", 0),
        ("top_p", -0.01),
        ("top_p", 1.01),
        ("top_p", math.nan),
    ],
)
def test_options_out_of_range_are_refused(option: str, value: float):
    with pytest.raises(ValueError, match=f"{option} is {value}"):
        choose(torch.zeros(3), torch.tensor(0.5).double(), **{option: value})
