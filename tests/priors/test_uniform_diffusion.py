"""What must hold for uniform-noise diffusion in particular."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from tests.priors.spaces import CLASSES, every_code, labels_of, make, random_codes
from torch import Tensor
from torch.testing import assert_close

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.dropout import noise
from vqkit.priors import Conditioning, UniformDiffusionConfig, UniformDiffusionPrior
from vqkit.priors.replacing import Jump, signal

TINY = (LevelSpec((2,), (3,)),)
MIXED = (LevelSpec((1,), (3,)), LevelSpec((1,), (2, 3), "residual"))
SMALL = UniformDiffusionConfig(layers=2, width=16, heads=2, dropout=0.2, times=4)
WIDE = (LevelSpec((4, 5), (6,)),)


def diffusion(
    specs: tuple[LevelSpec, ...] = TINY, num_classes: int | None = None, **keys
) -> UniformDiffusionPrior:
    prior = make(replace(SMALL, **keys), specs, num_classes)
    assert isinstance(prior, UniformDiffusionPrior)
    return prior.double()


def transition(times: int, t: int, size: int) -> Tensor:
    """q(x_t | x_{t-1}) as a matrix, row by row: kept, or drawn from all entries. (K, K)"""
    now, before = (math.cos(math.pi / 2 * n / times) ** 2 for n in (t, t - 1))
    a = 0.0 if t == times else now / before
    return a * torch.eye(size).double() + (1 - a) / size


def posterior(times: int, t: int, size: int, s: int | None = None) -> Tensor:
    """q(x_s | x_t, x_0) by Bayes' rule on matrices, s = t - 1 if left out. [x_0, x_t, x_s]"""
    s = t - 1 if s is None else s
    up_to, between = torch.eye(size).double(), torch.eye(size).double()
    for step in range(1, t + 1):
        if step <= s:
            up_to = up_to @ transition(times, step, size)
        else:
            between = between @ transition(times, step, size)
    joint = up_to.unsqueeze(1) * between.T.unsqueeze(0)
    return joint / joint.sum(-1, keepdim=True)


def truth_given(prior: UniformDiffusionPrior, states: Tensor, t: int) -> list[Tensor]:
    """p(x_0 | x_t) of each slot: what the network tells, times q(x_t | x_0). Each (B, K)"""
    told, found = prior.told(len(states), Conditioning(), None), []
    real = torch.ones_like(states, dtype=torch.bool)
    hidden = prior.predict(states, real, told, torch.full((len(states),), t))
    logits = prior.network.embedding.every_logits(hidden)
    for slot, size in enumerate(prior.slot_sizes.tolist()):
        up_to = torch.eye(size).double()
        for step in range(1, t + 1):
            up_to = up_to @ transition(prior.config.times, step, size)
        p = logits[:, slot, :size].softmax(-1) * up_to[:, states[:, slot]].T
        found.append(p / p.sum(-1, keepdim=True))
    return found


@torch.no_grad()
def exact_log_prob(
    prior: UniformDiffusionPrior, codes: Codes, through: tuple[int, ...] | None = None
) -> Tensor:
    """Of the chain from noise to codes through these times, by matrices over all states. (B,)"""
    states, times = codes.flat(), prior.config.times
    num = len(states)
    p = torch.full((num,), 1 / num, dtype=torch.float64)
    through = through or tuple(range(times, -1, -1))
    for time, then in itertools.pairwise(through):
        truth = truth_given(prior, states, time)
        step = torch.ones(num, num).double()  # from one state to another
        for slot, size in enumerate(prior.slot_sizes.tolist()):
            q = posterior(times, time, size, then)[:, states[:, slot]]  # [x_0, state, x_then]
            own = torch.einsum("sk,ksj->sj", truth[slot], q)
            step *= own[:, states[:, slot]]
        p = p @ step
    return p.log()


@pytest.mark.parametrize("specs", [TINY, MIXED], ids=["tiny", "mixed"])
def test_the_bound_is_below_the_exact_log_probability_which_sums_to_one(specs):
    prior, codes = diffusion(specs), every_code(specs)
    exact, bound = exact_log_prob(prior, codes), prior.exact_bound(codes)
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert (bound <= exact + 1e-12).all()
    assert (bound < exact - 1e-3).any()
    assert bound.exp().sum() > 0.01


def test_the_bound_is_the_sum_of_divergences_between_matrices():
    """Written out for one slot: equation 1 with every x_t and x_{t-1} enumerated, L_T included."""
    specs, size, times = (LevelSpec((), (3,)),), 3, SMALL.times
    prior, codes = diffusion(specs), every_code(specs)
    states = torch.arange(size).unsqueeze(1)
    up_to = torch.eye(size).double()
    total = torch.zeros(size).double()
    for time in range(1, times + 1):
        up_to = up_to @ transition(times, time, size)
        with torch.no_grad():
            truth = truth_given(prior, states, time)[0]
        q = posterior(times, time, size)
        model = torch.einsum("sk,ksj->sj", truth, q)
        for first in range(size):
            terms = torch.xlogy(q[first], q[first]) - torch.xlogy(q[first], model)
            total[first] += (up_to[first] * terms.sum(-1)).sum()
    total += torch.xlogy(up_to, up_to * size).sum(1)  # L_T
    assert_close(prior.exact_bound(codes), -total, rtol=0, atol=1e-12)


def test_the_bound_is_exact_with_one_time_alone():
    prior, codes = diffusion(times=1, bound_draws=3), every_code(TINY)
    with torch.no_grad():
        # x_1 is noise and tells nothing, but the network reads it: the mean is of logarithms.
        bound, exact = prior.exact_bound(codes), exact_log_prob(prior, codes)
    assert (bound < exact).all()
    for block in prior.network.transformer.blocks:  # which reads no other slot
        torch.nn.init.zeros_(block.attention.output.weight)
    torch.nn.init.zeros_(prior.network.embedding.table.weight)  # nor its own integer
    exact = exact_log_prob(prior, codes)
    assert_close(prior.exact_bound(codes), exact, rtol=0, atol=1e-12)
    assert_close(prior.log_prob(codes).detach(), exact, rtol=0, atol=1e-12)


def test_a_network_that_tells_nothing_is_the_uniform_prior_exactly():
    prior, codes = diffusion(MIXED), every_code(MIXED)
    assert prior.network.embedding.head is not None
    torch.nn.init.zeros_(prior.network.embedding.head.weight)
    torch.nn.init.zeros_(prior.network.embedding.head.bias)
    uniform = torch.full((18,), -math.log(18)).double()
    assert_close(prior.exact_bound(codes), uniform, rtol=0, atol=1e-6)
    assert_close(exact_log_prob(prior, codes), uniform, rtol=0, atol=1e-6)


def test_the_estimate_of_training_is_the_bound_in_the_mean():
    prior, num = diffusion(MIXED, CLASSES, dropout=0.0).train(), 4000
    codes, given = random_codes(MIXED, 3, masked=True), labels_of(3)
    bound, rows = prior.exact_bound(codes, given), torch.arange(3).repeat_interleave(num)
    mask = codes.flat_mask()
    assert mask is not None
    many = Codes.from_flat(codes.flat()[rows], MIXED, mask[rows])
    with noise(0, 0, torch.arange(len(rows))), torch.no_grad():
        nats = prior.nats(many, given[rows]).sum(1).view(3, num)
    error = nats.std(1) / math.sqrt(num)
    assert ((-nats.mean(1) - bound).abs() <= 4 * error + 1e-12).all()
    assert (error < 0.1).all()


@torch.no_grad()
def test_the_estimate_of_evaluation_comes_closer_to_the_bound_with_more_draws():
    codes, errors = random_codes(TINY, 40), []
    for draws in (1, 256):
        prior = diffusion(bound_draws=draws)
        errors.append(prior.log_prob(codes) - prior.exact_bound(codes))
    means = [float(error.square().mean().sqrt()) for error in errors]
    assert means[0] > 5 * means[1]


def test_the_gradient_of_training_is_that_of_the_bound_in_the_mean():
    prior, codes, num = diffusion(dropout=0.0).train(), random_codes(TINY, 1), 400
    table = prior.network.places.axes[0]
    flat = codes.flat()

    def gradient(estimate: Tensor) -> Tensor:
        prior.zero_grad()
        estimate.backward()
        assert table.grad is not None
        return table.grad.clone()

    real = torch.ones_like(flat, dtype=torch.bool)
    exact = gradient(prior.mean_cost(flat, real, prior.told(1, Conditioning(), None)).sum())
    parts = []
    for step in range(20):
        with noise(0, step, torch.arange(num)):
            many = Codes.from_flat(flat.repeat(num, 1), TINY)
            parts.append(gradient(prior.nats(many).sum(1).mean()))
    found = torch.stack(parts)
    error = found.std(0) / math.sqrt(20)
    assert ((found.mean(0) - exact).abs() <= 5 * error + 1e-12).all()
    assert exact.abs().max() > 20 * error.max()


def test_all_steps_draw_as_often_as_the_chain_over_all_states_says():
    prior, codes, num = diffusion(MIXED), every_code(MIXED), 20_000
    exact = exact_log_prob(prior, codes).exp()
    drawn = prior.sample(num, seed=1).flat()
    found = (drawn.unsqueeze(1) == codes.flat()).all(-1).double().mean(0)
    assert ((found - exact).abs() <= 5 * (exact * (1 - exact) / num).sqrt() + 1e-9).all()
    assert torch.equal(prior.sample(50, seed=1, steps=4).flat(), drawn[:50])


@pytest.mark.parametrize(("steps", "through"), [(1, (4, 0)), (2, (4, 2, 0)), (3, (4, 3, 2, 0))])
def test_fewer_steps_draw_as_often_as_a_chain_of_so_many_jumps_says(
    steps: int, through: tuple[int, ...]
):
    prior, codes, num = diffusion(MIXED), every_code(MIXED), 20_000
    exact = exact_log_prob(prior, codes, through).exp()
    drawn = prior.sample(num, seed=1, steps=steps).flat()
    found = (drawn.unsqueeze(1) == codes.flat()).all(-1).double().mean(0)
    assert ((found - exact).abs() <= 5 * (exact * (1 - exact) / num).sqrt() + 1e-9).all()


@pytest.mark.parametrize(("t", "s"), [(4, 3), (3, 2), (1, 0), (4, 0), (3, 1)])
def test_a_jump_is_bayes_rule_on_matrices_and_is_drawn_as_often_as_it_says(t: int, s: int):
    size, times, num = 3, 4, 30_000
    up_to, between = torch.eye(size).double(), torch.eye(size).double()
    for step in range(1, t + 1):
        if step <= s:
            up_to = up_to @ transition(times, step, size)
        else:
            between = between @ transition(times, step, size)
    jump = Jump(torch.tensor(t), torch.tensor(s), times, size)
    u = (torch.arange(num).double() + 0.5) / num
    for first in range(size):
        for now in range(size):
            q = up_to[first] * between[:, now]
            q = q / q.sum()
            known = torch.nn.functional.one_hot(torch.tensor(first), size).double().log()
            log_probs = jump.log_probs(known.clamp(min=-1e4), torch.tensor(now))
            assert_close(log_probs.exp(), q, rtol=0, atol=1e-12)
            drawn = jump.sample(torch.full((num,), now), torch.full((num,), first), u).bincount(
                minlength=size
            )
            assert_close(drawn.double() / num, q, rtol=0, atol=2.1 / num)


def test_the_noise_keeps_as_often_as_its_signal_says_and_is_uniform_else():
    prior, num = diffusion(MIXED), 30_000
    u = ((torch.arange(num).double() + 0.5) / num).unsqueeze(1).expand(-1, 3)
    flat = torch.tensor([[2, 0, 1]]).expand(num, -1)
    for time in range(5):
        noisy = prior.replaced(flat, torch.full((num,), time), u)
        kept = float(signal(torch.tensor(time), 4))
        for slot, size in enumerate(prior.slot_sizes.tolist()):
            found = noisy[:, slot].bincount(minlength=size).double() / num
            expected = torch.full((size,), (1 - kept) / size).double()
            expected[flat[0, slot]] += kept
            assert_close(found, expected, rtol=0, atol=2.1 / num)
    assert signal(torch.tensor([0, 4]), 4).tolist() == [1, 0]


@pytest.mark.parametrize("steps", [1, 2, 3, 4])
def test_what_is_known_stays_and_the_rest_is_drawn_in_any_number_of_steps(steps: int):
    prior, codes = diffusion(WIDE), random_codes(WIDE, 30)
    mask = torch.rand(30, 20) <= torch.arange(30).unsqueeze(1) / 29
    known = Codes.from_flat(codes.flat(), WIDE, mask)
    drawn = prior.sample(30, seed=0, known=known, steps=steps).flat()
    assert torch.equal(drawn[mask], codes.flat()[mask])
    assert (drawn[~mask] != codes.flat()[~mask]).any()
    again = prior.sample(7, seed=0, first=9, known=known[9:16], steps=steps).flat()
    assert torch.equal(again, drawn[9:16])


def test_known_codes_carry_the_noise_of_each_step(monkeypatch: pytest.MonkeyPatch):
    prior, codes = diffusion(WIDE), random_codes(WIDE, 400)
    mask = torch.zeros(400, 20, dtype=torch.bool)
    mask[:, :10] = True
    kept = {}
    predict = UniformDiffusionPrior.predict

    def watched(self, noisy, real, told, t):
        right = noisy[:, :10] == codes.flat()[:, :10]
        kept[int(t[0])] = float(right.double().mean())
        return predict(self, noisy, real, told, t)

    monkeypatch.setattr(UniformDiffusionPrior, "predict", watched)
    prior.sample(400, seed=0, known=Codes.from_flat(codes.flat(), WIDE, mask))
    for time in range(1, 5):
        signal_there = float(signal(torch.tensor(time), 4))
        expected = signal_there + (1 - signal_there) / 6
        assert kept[time] == pytest.approx(expected, abs=0.04)


def test_more_steps_than_there_are_times_are_refused():
    with pytest.raises(ValueError, match="steps is 5, but the noise of this prior comes in 4 st"):
        diffusion().sample(1, seed=0, steps=5)


def test_too_many_states_to_go_through_are_refused():
    with pytest.raises(ValueError, match="states, too many to go through; use log_prob"):
        diffusion(WIDE).exact_bound(random_codes(WIDE, 1))


@pytest.mark.parametrize("logit", [-200.0, 200.0])
def test_a_network_that_is_very_sure_gives_finite_costs_and_gradients_in_float32(logit: float):
    logits = torch.tensor([logit, 0.0, 0.0]).expand(4, 1, 3).clone().requires_grad_()
    t = torch.tensor([[1], [2], [3], [4]])
    first = torch.zeros(4, 1, dtype=torch.int64)
    for now in range(3):
        kl = Jump(t, t - 1, 4, 3).divergence(logits, torch.full((4, 1), now), first)
        (gradient,) = torch.autograd.grad(kl.sum(), logits)
        assert kl.isfinite().all()
        assert gradient.isfinite().all()
        assert (kl >= -1e-6).all()


def test_every_parameter_gets_a_gradient():
    prior = diffusion(MIXED, CLASSES).train()
    with noise(0, 0, torch.arange(40)):
        prior.loss(random_codes(MIXED, 40), labels_of(40))["nats_per_token"].value.backward()
    idle = {n for n, p in prior.named_parameters() if p.grad is None or not p.grad.any()}
    assert idle == set()


def test_it_learns_what_frequencies_cannot_tell():
    """All integers of an item are the same."""
    specs = (LevelSpec((2, 2), (8,)),)
    codes = Codes.from_flat(torch.arange(8).unsqueeze(1).expand(-1, 4), specs)
    torch.manual_seed(0)
    prior = replace(SMALL, width=32, dropout=0.0, times=16).build(specs)
    optimizer = torch.optim.Adam(prior.parameters(), lr=3e-3)
    many = Codes.cat([codes] * 16)
    for step in range(250):
        with noise(0, step, torch.arange(128)):
            prior.train().loss(many)["nats_per_token"].value.backward()
        optimizer.step()
        optimizer.zero_grad()
    drawn = prior.eval().sample(200, seed=0).flat()
    assert (drawn == drawn[:, :1]).all(1).double().mean() > 0.8
    assert len(drawn[:, 0].unique()) == 8
    assert prior.log_prob(codes).mean() > -4  # log 8 = 2.08; 8.3 if independent
