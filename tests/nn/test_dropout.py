"""What must hold for dropout that is a pure function of the step and the item."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.nn.dropout import StatelessDropout, no_dropout, noise


def dropped(x: Tensor, p: float = 0.5, *, seed: int = 0, step: int = 0, first: int = 0) -> Tensor:
    with noise(seed, step, torch.arange(first, first + len(x))):
        return StatelessDropout(p)(x)


@pytest.mark.parametrize("p", [0.001, 0.1, 0.5, 0.9])
def test_the_rate_is_the_rate_asked_for(p: float):
    out = dropped(torch.ones(100, 10_001), p)
    deviation = math.sqrt(p * (1 - p) / out.numel())
    assert abs((out == 0).double().mean().item() - p) < 4 * deviation + 2**-17


@pytest.mark.parametrize("p", [0.1, 0.37])
def test_what_stays_is_divided_so_that_the_mean_stays(p: float):
    out = dropped(torch.ones(1, 4000, dtype=torch.float64), p)
    assert_close(out[out != 0], torch.full_like(out[out != 0], 1 / (1 - p)), rtol=2e-5, atol=0)


def test_a_rate_of_zero_and_evaluation_change_nothing():
    x = torch.randn(3, 5)
    assert StatelessDropout(0.0)(x) is x
    assert StatelessDropout(0.5).eval()(x) is x


def test_inside_no_dropout_training_mode_changes_nothing_either():
    x = torch.randn(3, 5)
    with noise(0, 0, torch.arange(3)), no_dropout():
        assert StatelessDropout(0.5)(x) is x


def test_two_half_batches_drop_exactly_what_the_whole_batch_drops():
    x = torch.randn(6, 7, 3)
    halves = torch.cat([dropped(x[:2]), dropped(x[2:], first=2)])
    assert torch.equal(halves, dropped(x))


def test_the_gradient_is_dropped_where_the_value_is():
    x = torch.randn(4, 50, requires_grad=True)
    out = dropped(x)
    out.sum().backward()
    assert torch.equal(x.grad == 0, out == 0)
    assert_close(x.grad * x.detach(), out.detach())


@pytest.mark.parametrize("change", [{"seed": 1}, {"step": 1}, {"first": 1000}], ids=str)
def test_another_seed_step_or_position_drops_independently(change: dict):
    x = torch.ones(50, 1000)
    agree = ((dropped(x) == 0) == (dropped(x, **change) == 0)).double().mean().item()
    assert abs(agree - 0.5) < 4 * 0.5 / math.sqrt(x.numel())


def test_every_call_of_a_pass_drops_independently_and_a_second_pass_repeats_them():
    x, layer, passes = torch.ones(50, 1000), StatelessDropout(0.5), []
    for _ in range(2):
        with noise(0, 0, torch.arange(50)):
            passes.append((layer(x), layer(x)))
    (first, second), again = passes
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    agree = (first == second).double().mean().item()
    assert abs(agree - 0.5) < 4 * 0.5 / math.sqrt(x.numel())


@pytest.mark.parametrize("lag", [1, 2, 3, 4, 8, 256])
def test_neighbouring_elements_fall_independently(lag: int):
    """Four elements share one hash: their correlation would show at lags 1 to 3."""
    signs = 1 - 2 * (dropped(torch.ones(50, 4000)) == 0).double()
    correlation = (signs[:, lag:] * signs[:, :-lag]).mean().item()
    assert abs(correlation) < 4 / math.sqrt(50 * (4000 - lag))


def test_neighbouring_items_fall_independently():
    signs = 1 - 2 * (dropped(torch.ones(200, 1000)) == 0).double()
    correlation = (signs[1:] * signs[:-1]).mean().item()
    assert abs(correlation) < 4 / math.sqrt(199 * 1000)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_the_type_stays_and_the_choice_does_not_depend_on_it(dtype: torch.dtype):
    x = torch.ones(3, 101)
    out = dropped(x.to(dtype))
    assert out.dtype == dtype
    assert torch.equal(out == 0, dropped(x) == 0)


def test_an_empty_batch_passes():
    assert dropped(torch.ones(0, 5)).shape == (0, 5)


def test_training_without_noise_is_refused_in_words():
    with pytest.raises(RuntimeError, match=r"noise\(seed, step, positions\)"):
        StatelessDropout(0.5)(torch.ones(3))


def test_the_wrong_number_of_positions_is_refused():
    with (
        noise(0, 0, torch.arange(2)),
        pytest.raises(ValueError, match="2 positions for 3 items"),
    ):
        StatelessDropout(0.5)(torch.ones(3, 1))


@pytest.mark.parametrize("p", [-0.1, 1.0, math.nan])
def test_a_rate_out_of_range_is_refused(p: float):
    with pytest.raises(ValueError, match="p is"):
        StatelessDropout(p)
