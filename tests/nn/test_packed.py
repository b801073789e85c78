"""Packed layers compute what the layers do that they are made of, in every way that there is."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vqkit.nn import packed, step_library
from vqkit.nn.packed import Compiled, Plain, packed_linear

WAYS: dict[str, tuple[type[Compiled | Plain], int]] = {"torch": (Plain, 16)}
if step_library.library() is not None:
    WAYS |= {f"compiled, {most}": (Compiled, most) for most in (16, 8, 4)}
SIZES = [(16, 48), (48, 16), (7, 5), (256, 256), (33, 17), (5, 40), (1, 1)]
ROWS = [0, 1, 2, 3, 4, 5, 6, 7, 13, 16, 33, 64, 65]


@pytest.fixture(params=WAYS)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> type[Compiled | Plain]:
    """Each way that there is on this machine."""
    way, most = WAYS[request.param]
    monkeypatch.setattr(step_library, "WIDEST", most)
    return way


@pytest.mark.parametrize("rows", ROWS)
@pytest.mark.parametrize(("before", "after"), SIZES)
@torch.no_grad()
def test_it_is_the_layer_it_is_made_of(
    kind: type[Compiled | Plain], rows: int, before: int, after: int
):
    torch.manual_seed(0)
    linear, x = nn.Linear(before, after), torch.randn(rows, before)
    exact = linear.double()(x.double())
    bound = (before + 1) * 2.0**-24 * (x.double().abs() @ linear.weight.abs().T + 1)
    found = kind(linear.float())(x).double()
    assert found.shape == exact.shape
    assert ((found - exact).abs() <= bound).all()


@pytest.mark.parametrize("threads", [1, 2, 3, 8])
@torch.no_grad()
def test_neither_the_other_rows_nor_the_threads_change_a_bit(
    kind: type[Compiled | Plain], monkeypatch: pytest.MonkeyPatch, threads: int
):
    made, x = kind(nn.Linear(40, 90)), torch.randn(64, 40)
    # What torch adds up in which order is its own choice.
    tolerance = {"rtol": 0, "atol": 1e-5 if kind is Plain else 0}
    expected = made(x)
    monkeypatch.setattr(packed, "PRODUCTS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    for num in ROWS:
        assert_close(made(x[:num]), expected[:num], **tolerance)
    assert_close(made(x[7:9]), expected[7:9], **tolerance)


@torch.no_grad()
def test_rows_that_do_not_lie_side_by_side_are_read_as_they_are(kind: type[Compiled | Plain]):
    made, x = kind(nn.Linear(12, 8)), torch.randn(24, 5)
    assert_close(made(x.T[:, ::2]), made(x.T[:, ::2].contiguous()))


@torch.no_grad()
def test_rows_of_another_length_are_refused(kind: type[Compiled | Plain]):
    made = kind(nn.Linear(12, 8))
    for wrong in (torch.zeros(3, 11), torch.zeros(3, 13), torch.zeros(36)):
        with pytest.raises((ValueError, RuntimeError)):
            made(wrong)


@pytest.mark.parametrize(("before", "after"), SIZES)
@torch.no_grad()
def test_it_keeps_the_weights_it_was_made_of(kind: type[Compiled | Plain], before: int, after: int):
    linear, x = nn.Linear(before, after), torch.randn(4, before)
    made, expected = kind(linear), linear(x)
    linear.weight.add_(1)
    linear.bias.add_(1)
    assert_close(made(x), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_other_types_and_many_rows_are_computed_by_torch():
    linear = nn.Linear(8, 12)
    assert isinstance(packed_linear(linear, packed.MOST_ROWS + 1), Plain)
    assert isinstance(packed_linear(linear.double(), 4), Plain)
    x = torch.randn(4, 8, dtype=torch.float64)
    assert_close(packed_linear(linear, 4)(x), linear(x), rtol=0, atol=1e-14)
