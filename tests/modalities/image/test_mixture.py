"""What must hold for the mixture of logistics."""

import itertools

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.modalities.image.levels import nearest_level
from vqkit.modalities.image.mixture import LogisticMixture, LogisticMixtureObjective, log_level

LEVELS = torch.arange(256, dtype=torch.float64) / 127.5 - 1


def mixture(channels: int, items: int = 1, size: int = 1, components: int = 3) -> LogisticMixture:
    torch.manual_seed(0)
    shape = (components, size, size)
    return LogisticMixture(
        torch.randn(items, *shape),
        torch.randn(items, channels, *shape) * 0.5,
        torch.randn(items, channels, *shape) - 3,
        torch.rand(items, channels * (channels - 1) // 2, *shape) * 2 - 1,
    )


def level_mass(x: Tensor, mean: Tensor, log_scale: Tensor) -> Tensor:
    """The difference of two sigmoids, in float64, as PixelCNN++ writes it."""
    scale = log_scale.double().exp()
    upper = torch.sigmoid((x + 1 / 255 - mean.double()) / scale)
    lower = torch.sigmoid((x - 1 / 255 - mean.double()) / scale)
    upper = torch.where(x > 0.999, 1, upper)
    return upper - torch.where(x < -0.999, 0, lower)


@pytest.mark.parametrize("items", [1, 4])
def test_grey_levels_have_the_mass_of_equation_2(items: int):
    m = mixture(1, items=items)
    x = LEVELS[[0, 3, 100, 128, 254, 255]]
    for value in x:
        weights = m.logits.double().softmax(1)
        mass = (weights * level_mass(value, m.means[:, 0], m.log_scales[:, 0])).sum(1)
        found = m.log_prob(value.expand(items, 1, 1, 1))
        assert_close(found.exp(), mass.flatten(), rtol=1e-6, atol=1e-12)


def test_the_masses_of_all_grey_levels_sum_to_one():
    m = mixture(1, items=3)
    total = sum(m.log_prob(x.expand(3, 1, 1, 1)).exp() for x in LEVELS)
    assert_close(total, torch.ones(3, dtype=torch.float64), rtol=0, atol=1e-9)


def test_the_masses_of_all_colours_sum_to_one():
    """By the chain: of each channel given those before it, over three components."""
    m = mixture(3)
    weights = m.logits.double().softmax(1).flatten()
    slopes = m.slopes.double()[0, :, :, 0, 0]
    means, scales = m.means[0, :, :, 0, 0], m.log_scales[0, :, :, 0, 0]
    coarse = LEVELS[[0, 60, 120, 180, 255]]
    for red, green in itertools.product(coarse, coarse):
        colours = torch.stack(torch.broadcast_tensors(red, green, LEVELS), 1)
        pixels = colours.reshape(256, 3, 1, 1)
        spread = LogisticMixture(*(part.expand(256, *part.shape[1:]) for part in parts(m)))
        over_blue = spread.log_prob(pixels).exp().sum()
        # What is left once blue is summed out: red, and green whose mean red has moved.
        p_red = level_mass(red, means[0], scales[0])
        p_green = level_mass(green, means[1] + slopes[0] * red, scales[1])
        assert_close(over_blue, (weights * p_red * p_green).sum(), rtol=1e-6, atol=1e-15)


def parts(m: LogisticMixture) -> tuple[Tensor, ...]:
    return m.logits, m.means, m.log_scales, m.slopes


def test_blue_moves_with_red_and_with_green():
    m = mixture(3)
    x = torch.zeros(1, 3, 1, 1)
    x[:, 0], x[:, 1], x[:, 2] = LEVELS[40], LEVELS[90], LEVELS[200]
    slopes = m.slopes.double()[:, :, :, 0, 0]
    blue = m.means.double()[:, 2, :, 0, 0] + slopes[:, 1] * LEVELS[40] + slopes[:, 2] * LEVELS[90]
    green = m.means.double()[:, 1, :, 0, 0] + slopes[:, 0] * LEVELS[40]
    scales = m.log_scales[:, :, :, 0, 0]
    mass = level_mass(LEVELS[40], m.means[:, 0, :, 0, 0], scales[:, 0])
    mass = mass * level_mass(LEVELS[90], green, scales[:, 1])
    mass = mass * level_mass(LEVELS[200], blue, scales[:, 2])
    expected = (m.logits.double().softmax(1)[:, :, 0, 0] * mass).sum(1)
    assert_close(m.log_prob(x).exp(), expected, rtol=1e-5, atol=1e-15)


@pytest.mark.parametrize("mean", [-1e4, -1.0, 0.0, 0.3, 1e4])
@pytest.mark.parametrize("log_scale", [-7.0, -3.0, 7.0])
def test_masses_and_gradients_are_finite_at_the_extremes(mean: float, log_scale: float):
    means = torch.full((256,), mean, requires_grad=True)
    scales = torch.full((256,), log_scale, requires_grad=True)
    nats = log_level(LEVELS.float(), means, scales)
    nats.sum().backward()
    assert nats.isfinite().all()
    assert means.grad.isfinite().all()
    assert scales.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 1e3, 1e6])
def test_wild_outputs_have_a_finite_loss_and_finite_gradients(scale: float):
    torch.manual_seed(0)
    objective = LogisticMixtureObjective(5)
    outputs = (scale * torch.randn(2, objective.num_outputs(3), 4, 4)).requires_grad_()
    x = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    loss = objective.loss(outputs, objective.normalize(x))["reconstruction"].value
    loss.backward()
    assert loss.isfinite()
    assert outputs.grad.isfinite().all()


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_the_loss_is_in_nats_for_each_dimension(channels: int):
    torch.manual_seed(0)
    objective = LogisticMixtureObjective(4)
    outputs = torch.randn(3, objective.num_outputs(channels), 5, 5)
    x = objective.normalize(torch.randint(0, 256, (3, channels, 5, 5), dtype=torch.uint8))
    loss = objective.loss(outputs, x)["reconstruction"]
    log_prob = objective.distribution(outputs).log_prob(x)
    assert_close(loss.value.double(), -log_prob.sum() / x.numel(), rtol=0, atol=1e-5)
    assert loss.count == x.numel()


def test_a_masked_loss_is_the_mean_over_real_values():
    torch.manual_seed(0)
    objective = LogisticMixtureObjective(4)
    outputs = torch.randn(3, objective.num_outputs(3), 5, 5, requires_grad=True)
    x = objective.normalize(torch.randint(0, 256, (3, 3, 5, 5), dtype=torch.uint8))
    mask = torch.rand(3, 5, 5) > 0.5
    loss = objective.loss(outputs, x, mask)["reconstruction"]
    nats = -objective.distribution(outputs).pixel_log_prob(x)
    assert_close(loss.value, nats[mask].sum() / (3 * mask.sum()))
    assert loss.count == 3 * mask.sum()
    loss.value.backward()
    assert (outputs.grad.movedim(1, -1)[~mask] == 0).all()


def test_numbers_of_outputs_are_those_of_the_paper():
    assert LogisticMixtureObjective(10).num_outputs(3) == 100
    assert LogisticMixtureObjective(10).num_outputs(1) == 30


def test_outputs_of_another_number_are_refused():
    with pytest.raises(ValueError, match="40 outputs"):
        LogisticMixtureObjective(10).distribution(torch.randn(1, 40, 2, 2))


def test_the_mode_is_the_means_of_the_most_probable_component():
    m = mixture(3, items=2, size=4)
    mode = m.mode()
    best = m.logits.argmax(1)
    for b, i, j in itertools.product(range(2), range(4), range(4)):
        k = best[b, i, j]
        means, slopes = m.means[b, :, k, i, j], m.slopes[b, :, k, i, j]
        red = means[0].clamp(-1, 1)
        green = (means[1] + slopes[0] * red).clamp(-1, 1)
        blue = (means[2] + slopes[1] * red + slopes[2] * green).clamp(-1, 1)
        assert_close(mode[b, :, i, j], torch.stack([red, green, blue]))


def test_samples_are_grey_levels_as_frequent_as_their_masses():
    one = mixture(1)
    many = LogisticMixture(*(part.expand(*part.shape[:-2], 150, 150) for part in parts(one)))
    drawn = nearest_level(many.sample(seed=0))
    frequency = torch.bincount(drawn.long().flatten(), minlength=256) / drawn.numel()
    mass = torch.cat([one.log_prob(x.expand(1, 1, 1, 1)).exp() for x in LEVELS])
    assert_close(frequency.double(), mass, rtol=0, atol=0.01)


def test_colours_are_sampled_as_often_as_their_chain_says():
    one = mixture(3)
    many = LogisticMixture(*(part.expand(*part.shape[:-2], 200, 200) for part in parts(one)))
    drawn = many.sample(seed=0)
    nats = -many.log_prob(drawn) / (200 * 200)
    # The mean log-probability of samples is the entropy; of a second sample it must be the same.
    assert_close(nats, -many.log_prob(many.sample(seed=1)) / (200 * 200), rtol=0.01, atol=0)
    # And no other distribution of the same marginals gives them as much.
    shuffled = torch.stack([drawn[:, 0], drawn[:, 1].flip(-1), drawn[:, 2].flip(-2)], dim=1)
    assert (-many.log_prob(shuffled) / (200 * 200) > nats + 0.1).all()


def test_sample_i_depends_on_the_seed_and_i_alone():
    m = mixture(3, items=4, size=3)
    first = LogisticMixture(*(part[:2] for part in parts(m)))
    assert torch.equal(m.sample(seed=3)[:2], first.sample(seed=3))
    assert not torch.equal(m.sample(seed=3), m.sample(seed=4))
