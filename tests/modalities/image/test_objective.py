"""What must hold for squared error and its Gaussian."""

import math

import mpmath
import pytest
import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.testing import assert_close

from vqkit.modalities.image.gaussian import Gaussian, GaussianObjective, log_interval
from vqkit.modalities.image.levels import nearest_level
from vqkit.modalities.image.objective import ObjectiveConfig

LEVELS = torch.arange(256, dtype=torch.float64)


def images(*shape: int, seed: int = 0) -> Tensor:
    """Images of grey levels in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, shape, generator=generator) / 127.5 - 1


def gaussian(mean: Tensor, sigma: float) -> Gaussian:
    """Mean and sigma in grey levels."""
    fitted = torch.tensor(True)
    return Gaussian(mean / 127.5 - 1, torch.tensor(sigma / 127.5, dtype=torch.float64), fitted)


def oracle(level: int, mean: float, sigma: float) -> float:
    """The log of the mass of one level, with 400 digits where float64 has 16."""
    with mpmath.workdps(400):
        upper = (
            mpmath.mpf(1) if level == 255 else mpmath.ncdf((level + 0.5 - mpmath.mpf(mean)) / sigma)
        )
        lower = (
            mpmath.mpf(0) if level == 0 else mpmath.ncdf((level - 0.5 - mpmath.mpf(mean)) / sigma)
        )
        return float(mpmath.log(upper - lower))


@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0, 40.0, 800.0])
@pytest.mark.parametrize("mean", [-20.0, 0.2, 99.5, 130.25, 255.0, 270.0])
def test_log_prob_is_the_mass_of_the_level_far_into_the_tails(mean: float, sigma: float):
    levels = [0, 1, 90, 99, 100, 130, 131, 200, 254, 255]
    levels = [k for k in levels if abs(k - mean) / sigma < 40]  # what 400 digits still resolve
    expected = torch.tensor([oracle(k, mean, sigma) for k in levels], dtype=torch.float64)
    level = torch.tensor(levels, dtype=torch.float64)
    found = log_interval(
        level - mean, level == 0, level == 255, torch.tensor(sigma, dtype=torch.float64)
    )
    assert_close(found, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("sigma", [0.01, 0.3, 1.0, 20.0, 1000.0])
@pytest.mark.parametrize("mean", [-1e4, -0.7, 0.0, 127.3, 255.4, 1e4])
def test_the_masses_of_all_levels_sum_to_one(mean: float, sigma: float):
    x = (LEVELS / 127.5 - 1).reshape(-1, 1, 1, 1)
    log_prob = gaussian(torch.full_like(x, mean), sigma).log_prob(x)
    assert log_prob.isfinite().all()
    assert_close(log_prob.exp().sum(), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-9)


@pytest.mark.parametrize("mean", [-1e30, -1e9, 1e9, 1e30])
def test_no_output_however_wrong_has_an_infinite_log_prob(mean: float):
    x = images(2, 1, 4, 4)
    log_prob = gaussian(torch.full(x.shape, mean), 0.01).log_prob(x)
    assert log_prob.isfinite().all()


def test_log_prob_of_an_image_is_the_sum_over_its_values():
    mean, x = 255 * torch.rand(3, 2, 2, 2), images(3, 2, 2, 2)
    found = gaussian(mean, 9.0).log_prob(x)
    level = nearest_level(x)
    one = [
        oracle(int(k), float(m), 9.0)
        for k, m in zip(level[1].flatten(), mean[1].flatten(), strict=True)
    ]
    assert found.shape == (3,)
    assert_close(found[1].item(), math.fsum(one), rtol=0, atol=1e-4)  # the mean is float32


def test_the_loss_is_the_squared_error_over_the_variance_of_the_data():
    objective = GaussianObjective()
    data = images(20, 3, 4, 4)
    objective.observe([data[:3], data[3:4], data[4:]])
    assert_close(objective.variance, data.var(correction=0))
    outputs, x = torch.randn(2, 3, 4, 4), images(2, 3, 4, 4)
    loss = objective.loss(outputs, x)["reconstruction"]
    assert_close(loss.value, ((outputs - x) ** 2).mean() / data.var(correction=0))
    assert loss.count == x.numel()


def test_a_masked_loss_is_the_mean_over_real_values_whatever_padding_holds():
    objective, outputs, x = GaussianObjective(), torch.randn(2, 3, 4, 4), images(2, 3, 4, 4)
    mask = torch.rand(2, 4, 4) > 0.5
    real = mask.unsqueeze(1).expand_as(x)
    outputs.requires_grad_()
    loss = objective.loss(outputs, x.masked_fill(~real, torch.nan), mask)["reconstruction"]
    assert_close(loss.value, (outputs - x)[real].square().mean())
    assert loss.count == real.sum()
    loss.value.backward()
    assert (outputs.grad[~real] == 0).all()


@pytest.mark.parametrize("sigma", [0.3, 2.0, 30.0])
def test_calibrate_finds_the_sigma_of_greatest_likelihood(sigma: float):
    torch.manual_seed(0)
    objective = GaussianObjective()
    mean = 300 * torch.rand(4, 1, 32, 32, dtype=torch.float64) - 20  # some beyond black and white
    x = (mean + sigma * torch.randn_like(mean)).round().clamp(0, 255) / 127.5 - 1
    outputs = mean / 127.5 - 1
    objective.calibrate([(outputs[:1], x[:1]), (outputs[1:], x[1:])])
    fitted = objective.sigma.item()
    assert abs(fitted * 127.5 / sigma - 1) < 0.05

    def log_likelihood(factor: float) -> float:
        return gaussian(mean, fitted * 127.5 * factor).log_prob(x).sum().item()

    assert log_likelihood(1) > max(log_likelihood(0.99), log_likelihood(1.01))


def test_exact_outputs_calibrate_to_a_narrow_gaussian():
    objective, x = GaussianObjective(), images(2, 1, 8, 8)
    objective.calibrate([(x, x)])
    assert_close(objective.distribution(x).log_prob(x), torch.zeros(2).double(), rtol=0, atol=1e-9)


def test_no_likelihood_is_claimed_before_calibration():
    objective, x = GaussianObjective(), images(2, 1, 8, 8)
    assert not objective.claims_likelihood
    with pytest.raises(ValueError, match="call the objective's calibrate"):
        objective.distribution(x).log_prob(x)
    with pytest.raises(ValueError, match="call the objective's calibrate"):
        objective.distribution(x).sample(0)
    objective.calibrate([(x + 0.1, x)])
    assert objective.claims_likelihood
    assert objective.distribution(x).log_prob(x).isfinite().all()


def test_the_mode_is_the_mean_inside_the_range_of_grey():
    mean = torch.tensor([-1.7, -0.3, 0.5, 1.2]).reshape(1, 1, 2, 2)
    mode = GaussianObjective().distribution(mean).mode()
    assert_close(mode.flatten(), torch.tensor([-1.0, -0.3, 0.5, 1.0]))


def test_samples_are_grey_levels_as_frequent_as_their_masses():
    mean = torch.full((1, 1, 100, 200), 3.3)
    distribution = gaussian(mean, 4.0)
    drawn = nearest_level(distribution.sample(seed=0))
    frequency = torch.bincount(drawn.long().flatten(), minlength=256) / drawn.numel()
    x = (LEVELS / 127.5 - 1).reshape(-1, 1, 1, 1)
    mass = gaussian(torch.full_like(x, 3.3), 4.0).log_prob(x).exp()
    assert_close(frequency.double(), mass, rtol=0, atol=0.01)
    assert torch.equal(distribution.sample(seed=0), (drawn / 127.5 - 1).float())


def test_sample_i_depends_on_the_seed_and_i_alone():
    mean = torch.full((5, 3, 4, 4), 127.0)
    all_five = gaussian(mean, 30.0).sample(seed=7)
    assert torch.equal(all_five[:2], gaussian(mean[:2], 30.0).sample(seed=7))
    assert not torch.equal(all_five[0], all_five[1])
    assert not torch.equal(all_five, gaussian(mean, 30.0).sample(seed=8))


def test_grey_levels_become_numbers_from_minus_one_to_one():
    levels = torch.arange(256, dtype=torch.uint8)
    x = GaussianObjective().normalize(levels)
    assert (x[0], x[255], x.dtype) == (-1, 1, torch.float32)
    assert torch.equal(nearest_level(x), levels.double())
    assert GaussianObjective().normalize(x) is x


@pytest.mark.parametrize("x", [torch.tensor([0.0, 255.0]), torch.tensor([torch.nan])])
def test_floats_that_are_no_such_images_are_refused(x: Tensor):
    with pytest.raises(ValueError, match=r"give floats in \[-1, 1\], or uint8"):
        GaussianObjective().normalize(x)


def test_other_types_are_refused():
    with pytest.raises(TypeError, match="int64"):
        GaussianObjective().normalize(torch.zeros(1, dtype=torch.int64))


@pytest.mark.parametrize("batches", [[], [torch.zeros(2, 1, 4, 4)]], ids=["none", "all one grey"])
def test_data_without_variance_are_refused(batches: list[Tensor]):
    with pytest.raises(ValueError, match="no variance"):
        GaussianObjective().observe(batches)


def test_calibration_without_images_is_refused():
    with pytest.raises(ValueError, match="at least one batch"):
        GaussianObjective().calibrate([])


@pytest.mark.parametrize("name", ["gaussian", "logistic_mixture"])
def test_each_config_builds_its_objective(name: str):
    config = TypeAdapter(ObjectiveConfig).validate_python({"type": name})
    fields = type(config).__pydantic_fields__
    assert all(field.description for key, field in fields.items() if key != "type")
    assert config.build().num_outputs(3) >= 3
