"""What must hold for the losses of Regularized in themselves."""

import math

import pytest
import torch
from tests.quantizers.watching import Watch, kept_for_backward
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import regularizers as module
from vqkit.quantizers.regularizers import AverageChances, chances, squared_cosines

TEMPERATURE = 1.7


def cosines_by_pairs(table: Tensor) -> Tensor:
    """Written out, pair by pair."""
    total = torch.zeros((), dtype=torch.float64)
    for i, a in enumerate(table.double()):
        for j, b in enumerate(table.double()):
            total = total + (a @ b / (a.norm() * b.norm()) - float(i == j)) ** 2
    return total / len(table) ** 2


def by_vectors(z: Tensor, table: Tensor, prices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Written out, vector by vector: all entropies, all mean prices, and the sum of chances."""
    entropies, costs, taken = [], [], torch.zeros(len(table), dtype=torch.float64)
    for vector in z.double():
        logits = torch.stack([-(vector - e).square().sum() for e in table.double()]) / TEMPERATURE
        shares = logits.exp() / logits.exp().sum()
        entropies.append(-(shares * shares.log()).sum())
        costs.append((shares * prices).sum())
        taken = taken + shares
    return torch.stack(entropies), torch.stack(costs), taken


@pytest.mark.parametrize(("size", "dim"), [(12, 5), (5, 5), (4, 9), (2, 1)])
def test_squared_cosines_are_those_of_all_pairs_and_so_is_their_gradient(size: int, dim: int):
    torch.manual_seed(0)
    table = torch.randn(size, dim, dtype=torch.float64, requires_grad=True)
    value, expected = squared_cosines(table), cosines_by_pairs(table)
    assert_close(value, expected, rtol=1e-12, atol=1e-14)
    pair = [torch.autograd.grad(one, table)[0] for one in (value, expected)]
    assert_close(*pair, rtol=1e-10, atol=1e-12)
    assert torch.autograd.gradcheck(squared_cosines, table)
    assert_close(squared_cosines(1e-6 * table), value)  # lengths do not matter


def test_squared_cosines_go_from_right_angles_to_one_direction():
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(6, 6, dtype=torch.float64))
    assert squared_cosines(3 * basis[:4]) < 1e-30
    assert_close(squared_cosines(basis.repeat(3, 1)).item(), 1 / 6 - 1 / 18)  # the least there is
    one = torch.randn(1, 6, dtype=torch.float64).expand(8, 6)
    assert_close(squared_cosines(one).item(), 1 - 1 / 8)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6])
def test_an_entry_near_zero_gets_a_bounded_gradient(scale: float):
    torch.manual_seed(0)
    table = torch.randn(8, 4)
    table[2] *= scale
    table.requires_grad_()
    squared_cosines(table).backward()
    assert table.grad is not None
    assert table.grad.norm(dim=-1).amax() < 1e3
    assert squared_cosines(torch.zeros(8, 4, requires_grad=True)).isfinite()


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_chances_and_their_gradients_are_those_of_single_vectors(
    monkeypatch: pytest.MonkeyPatch, rows: int, offset: float
):
    torch.manual_seed(0)
    monkeypatch.setattr(module, "SCORES_PER_CHUNK", rows * 7)
    z = (torch.randn(20, 4, dtype=torch.float64) + offset).requires_grad_()
    table = (torch.randn(7, 4, dtype=torch.float64) + offset).requires_grad_()
    prices, weights = torch.rand(7).double(), torch.randn(20).double()
    found = chances(z, table, TEMPERATURE, prices)
    expected = by_vectors(z, table, prices)
    assert not found.taken.requires_grad
    for one, same in zip((found.entropy, found.price, found.taken), expected, strict=True):
        assert_close(one, same.detach(), rtol=1e-9, atol=1e-11, check_layout=False)
    for one, same in zip((found.entropy, found.price), expected, strict=False):
        pair = [
            torch.autograd.grad((x * weights).sum(), (z, table), retain_graph=True)
            for x in (one, same)
        ]
        assert_close(*pair, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_chances_in_single_precision_are_those_of_double_far_from_the_origin(offset: float):
    torch.manual_seed(0)
    z, table = torch.randn(200, 16) + offset, torch.randn(64, 16) + offset
    prices = torch.rand(64)
    single = chances(z, table, TEMPERATURE, prices)
    double = chances(z.double(), table.double(), TEMPERATURE, prices.double())
    for name in ("entropy", "price", "taken"):
        one, same = getattr(single, name), getattr(double, name)
        assert_close(one.double(), same, rtol=1e-4, atol=1e-5)


def test_what_is_masked_takes_nothing():
    torch.manual_seed(0)
    z, table, mask = torch.randn(50, 4), torch.randn(8, 4), torch.rand(50) > 0.5
    taken = chances(z, table, TEMPERATURE, torch.zeros(8), mask).taken
    assert_close(taken, chances(z[mask], table, TEMPERATURE, torch.zeros(8)).taken)
    assert_close(taken.sum(), mask.sum().float())
    assert (chances(z[:0], table, TEMPERATURE, torch.zeros(8)).taken == 0).all()


def test_neither_all_pairs_of_entries_nor_all_chances_are_ever_held():
    torch.manual_seed(0)
    size, num, dim = 3000, 2000, 8
    z, table = torch.randn(num, dim, requires_grad=True), torch.randn(size, dim, requires_grad=True)
    with Watch() as watch:
        with kept_for_backward() as numbers:
            found = chances(z, table, TEMPERATURE, torch.rand(size))
            loss = squared_cosines(table) + found.entropy.mean() + found.price.mean()
        loss.backward()
    assert z.grad is not None
    assert watch.largest <= module.SCORES_PER_CHUNK < min(size * size, size * num) / 5
    assert sum(numbers) < 20 * (size + num) * dim


def test_the_average_is_that_of_the_chances_since_each_commit():
    torch.manual_seed(0)
    layer, expected = AverageChances(6), torch.full((6,), 1 / 6)
    assert_close(layer.prices(6), torch.full((6,), math.log(6)))
    for _ in range(5):
        taken = 10 * torch.rand(2, 6)
        before = layer.average.clone()
        layer.collect(taken[0])
        layer.collect(taken[1])
        assert torch.equal(layer.average, before)
        layer.commit()
        layer.commit()  # nothing is pending
        expected = 0.9 * expected + 0.1 * taken.sum(0) / taken.sum()
        assert_close(layer.average, expected)
    for overflow in (torch.nan, torch.inf):
        layer.collect(torch.tensor([1, 1, overflow, 1, 1, 1]))
        layer.commit()
        assert_close(layer.average, expected)
    assert_close(layer.prices(6), -expected.log())


def test_the_average_of_another_number_of_entries_starts_again_and_is_loaded_as_saved():
    torch.manual_seed(0)
    layer = AverageChances(6)
    layer.collect(torch.rand(6))
    layer.commit()
    saved = layer.state_dict()
    assert_close(layer.prices(4), torch.full((4,), math.log(4)))
    layer.collect(torch.tensor([1.0, 0, 0, 0]))
    layer.commit()
    assert_close(layer.average, torch.tensor([0.325, 0.225, 0.225, 0.225]))
    other = AverageChances(4)
    other.load_state_dict(saved)
    assert torch.equal(other.average, saved["average"])
