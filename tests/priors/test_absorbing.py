"""What must hold for absorbing-state diffusion in particular."""

import itertools
import math
from dataclasses import replace
from functools import cache

import pytest
import torch
from tests.priors.spaces import (
    CLASSES,
    SPACES,
    every_code,
    labels_of,
    make,
    random_codes,
)
from torch import Tensor
from torch.testing import assert_close

from vqkit.codes import Codes, LevelSpec
from vqkit.nn.dropout import noise
from vqkit.priors import AbsorbingDiffusionConfig, AbsorbingDiffusionPrior, Conditioning
from vqkit.priors.absorbing import binomial
from vqkit.priors.revealing import num_hidden

SMALL = AbsorbingDiffusionConfig(layers=2, width=16, heads=2, dropout=0.2)
SPACE = SPACES["two levels"]
WIDE = (LevelSpec((4, 5), (6,)),)


def absorbing(
    specs: tuple[LevelSpec, ...] = SPACE, num_classes: int | None = CLASSES, **keys
) -> AbsorbingDiffusionPrior:
    prior = make(replace(SMALL, **keys), specs, num_classes)
    assert isinstance(prior, AbsorbingDiffusionPrior)
    return prior.double()


def independent(specs: tuple[LevelSpec, ...] = SPACE) -> AbsorbingDiffusionPrior:
    """One that looks at no other slot: what is known reaches nobody."""
    prior = absorbing(specs)
    for block in prior.network.transformer.blocks:
        torch.nn.init.zeros_(block.attention.output.weight)
    return prior


@torch.no_grad()
def every_prediction(prior: AbsorbingDiffusionPrior, codes: Codes, given: Conditioning) -> Tensor:
    """log p(x_i | those known), for every set of known slots as a binary number. (2^L, B, L)"""
    flat, found = codes.flat(), []
    told = prior.told(len(flat), given, codes.flat_mask())
    for number in range(2 ** flat.shape[1]):
        known = torch.tensor([bool(number >> i & 1) for i in range(flat.shape[1])]).expand_as(flat)
        nats = prior.network.embedding.nats(prior.predict(flat, known, told), flat)
        found.append(-nats)
    return torch.stack(found)


def exact_log_prob(prior: AbsorbingDiffusionPrior, codes: Codes, given: Conditioning) -> Tensor:
    """Of drawing one slot after another in an order drawn at random, over all orders. (B,)

    f(S), the probability that exactly S is drawn after |S| steps with the item's values, is the sum
    over the slot i that came last of f(S without i) p(x_i | S without i) / (L - |S| + 1).
    """
    predictions, length = every_prediction(prior, codes, given), codes.flat().shape[1]

    @cache
    def f(known: int) -> Tensor:
        if known == 0:
            return torch.ones(len(codes), dtype=torch.float64)
        last = [i for i in range(length) if known >> i & 1]
        ways = [f(known - 2**i) * predictions[known - 2**i, :, i].exp() for i in last]
        return sum(ways[1:], start=ways[0]) / (length - len(last) + 1)

    return f(2**length - 1).log()


@pytest.fixture(params=["one level", "two codebooks", "two levels"])
def specs(request: pytest.FixtureRequest) -> tuple[LevelSpec, ...]:
    return SPACES[request.param]


def test_the_bound_is_below_the_exact_log_probability_which_sums_to_one(specs):
    prior, codes = absorbing(specs), every_code(specs)
    given = Conditioning(torch.ones(len(codes), dtype=torch.int64))
    exact, bound = exact_log_prob(prior, codes, given), prior.exact_bound(codes, given)
    assert exact.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert (bound <= exact + 1e-12).all()
    assert (bound < exact - 1e-3).any()  # the orders differ


def test_the_bound_is_the_mean_over_all_orders_of_the_log_probability_in_that_order(specs):
    prior, codes, given = absorbing(specs), random_codes(specs, 6), labels_of(6)
    predictions, length = every_prediction(prior, codes, given), codes.flat().shape[1]
    orders = list(itertools.permutations(range(length)))
    total = torch.zeros(6).double()
    for order in orders:
        for place, slot in enumerate(order):
            total += predictions[sum(2**i for i in order[:place]), :, slot]
    assert_close(prior.exact_bound(codes, given), total / len(orders), rtol=0, atol=1e-10)


def test_the_bound_is_exact_where_slots_are_independent(specs):
    prior, codes = independent(specs), every_code(specs)
    given = Conditioning(torch.zeros(len(codes), dtype=torch.int64))
    bound = prior.exact_bound(codes, given)
    assert_close(bound, exact_log_prob(prior, codes, given), rtol=0, atol=1e-10)
    assert bound.exp().sum().item() == pytest.approx(1, abs=1e-10)


def test_one_slot_alone_is_exact():
    prior, codes = absorbing(SPACES["no grid"]), every_code(SPACES["no grid"])
    assert prior.log_prob(codes, labels_of(7)).shape == (7,)
    given = Conditioning(torch.zeros(7, dtype=torch.int64))
    assert_close(prior.log_prob(codes, given), prior.exact_bound(codes, given))
    assert prior.log_prob(codes, given).exp().sum().item() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("masked", [False, True])
def test_the_estimate_of_training_is_the_bound_in_the_mean(masked: bool):
    prior = absorbing(dropout=0.0).train()
    codes, num = random_codes(SPACE, 3, masked=masked), 4000
    bound = prior.exact_bound(codes, labels_of(3))
    rows = torch.arange(3).repeat_interleave(num)
    many = Codes.from_flat(codes.flat()[rows], SPACE, codes.flat_mask()[rows] if masked else None)
    with noise(0, 0, torch.arange(len(rows))), torch.no_grad():
        nats = prior.nats(many, Conditioning(labels_of(3).labels[rows])).sum(1).view(3, num)
    error = nats.std(1) / math.sqrt(num)
    assert ((-nats.mean(1) - bound).abs() <= 4 * error + 1e-12).all()
    assert (error < 0.05).all()


@torch.no_grad()
def test_the_estimate_of_evaluation_comes_closer_to_the_bound_with_more_draws():
    codes, given = random_codes(SPACE, 40), labels_of(40)
    errors = []
    for draws in (1, 16, 256):
        prior = absorbing(bound_draws=draws)
        errors.append((prior.log_prob(codes, given) - prior.exact_bound(codes, given)).square())
    means = [float(error.mean().sqrt()) for error in errors]
    assert means[0] > 3 * means[1] > 9 * means[2]
    last = prior.log_prob(codes, given) - prior.exact_bound(codes, given)
    assert abs(float(last.mean())) < 4 * float(last.std()) / math.sqrt(40)


@torch.no_grad()
def test_what_a_class_is_worth_is_estimated_better_than_the_bound_itself():
    prior, codes = absorbing(bound_draws=4), random_codes(SPACE, 60)
    classes = [Conditioning(torch.full((60,), label)) for label in (0, 1)]
    estimates = torch.stack([prior.log_prob(codes, given) for given in classes])
    errors = estimates - torch.stack([prior.exact_bound(codes, given) for given in classes])
    assert (errors[0] - errors[1]).square().mean() < 0.5 * 2 * errors.square().mean()


def test_the_gradient_of_training_is_that_of_the_bound_in_the_mean():
    prior = absorbing(dropout=0.0).train()
    codes, num = random_codes(SPACE, 1), 6000
    table = prior.network.places.codebooks

    def gradient(estimate: Tensor) -> Tensor:
        prior.zero_grad()
        estimate.backward()
        assert table.grad is not None
        return table.grad.clone()

    flat = codes.flat()
    real = torch.ones_like(flat, dtype=torch.bool)
    told = prior.told(1, labels_of(1), None)
    exact = gradient(prior.mean_cost(flat, real, told).sum())
    parts = []
    for step in range(20):  # twenty independent means tell how far off each is
        many = Codes.from_flat(flat.repeat(num // 20, 1), SPACE)
        given = Conditioning(torch.zeros(num // 20, dtype=torch.int64))
        with noise(0, step, torch.arange(num // 20)):
            parts.append(gradient(prior.nats(many, given).sum(1).mean()))
    found = torch.stack(parts)
    error = found.std(0) / math.sqrt(20)
    assert ((found.mean(0) - exact).abs() <= 5 * error + 1e-12).all()
    assert exact.abs().max() > 20 * error.max()


@torch.no_grad()
def test_what_is_told_of_a_hidden_slot_does_not_depend_on_which_others_are_computed():
    prior, codes = absorbing(WIDE, None), random_codes(WIDE, 4)
    flat, known = codes.flat(), torch.rand(4, 20) < 0.3
    told = prior.told(4, Conditioning(), None)
    full = prior.predict(flat, known, told)
    for slot in (0, 7, 19):
        asked = known.clone()
        asked[:, slot] = True  # the known ones, and one more
        for item in range(4):
            slots = asked[item].nonzero().squeeze(1)
            x = prior.embed(flat[item : item + 1, slots], known[item : item + 1, slots], slots)
            x = x + prior.network.added(told)[item : item + 1, slots]
            one = prior.told(1, Conditioning(), None)
            few = prior.network(x, known[item : item + 1, slots], one)
            place = int((slots == slot).nonzero())
            assert_close(few[0, place], full[item, slot], rtol=0, atol=1e-12)


@torch.no_grad()
def test_what_a_hidden_slot_holds_changes_nothing_in_one_bit_and_what_a_known_one_does_all():
    prior, codes = absorbing(WIDE, None), random_codes(WIDE, 2)
    flat, known = codes.flat(), torch.zeros(2, 20, dtype=torch.bool)
    known[:, [2, 11]] = True
    told = prior.told(2, Conditioning(), None)
    before = prior.predict(flat, known, told)
    hidden = torch.where(known, flat, (flat + 1) % 6)
    assert torch.equal(prior.predict(hidden, known, told), before)
    for slot in (2, 11):
        other = flat.clone()
        other[:, slot] = (other[:, slot] + 1) % 6
        assert (prior.predict(other, known, told) != before).any(-1).all()


def test_one_slot_in_each_step_draws_as_often_as_the_sum_over_all_orders_says():
    specs, num = SPACES["one level"], 20_000
    prior, codes = absorbing(specs), every_code(specs)
    given = Conditioning(torch.ones(num, dtype=torch.int64))
    exact = exact_log_prob(prior, codes, Conditioning(given.labels[: len(codes)])).exp()
    for steps in (4, 999):
        drawn = prior.sample(num, given, seed=steps, steps=steps).flat()
        found = (drawn.unsqueeze(1) == codes.flat()).all(-1).double().mean(0)
        assert ((found - exact).abs() <= 5 * (exact * (1 - exact) / num).sqrt() + 1e-9).all()


@pytest.mark.parametrize("order", ["random", "confidence"])
def test_a_single_step_draws_each_slot_from_what_the_network_tells_of_nothing_known(order: str):
    specs, num = SPACES["two codebooks"], 20_000
    prior, codes = absorbing(specs, None, order=order), every_code(specs)
    expected = every_prediction(prior, codes, Conditioning())[0].sum(1).exp()
    drawn = prior.sample(num, seed=0, steps=1).flat()
    found = (drawn.unsqueeze(1) == codes.flat()).all(-1).double().mean(0)
    assert expected.sum().item() == pytest.approx(1)
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / num).sqrt()).all()


def test_known_codes_are_completed_by_what_is_probable_given_them():
    """The rest is drawn as the one-at-a-time chain draws it that begins with what is known."""
    specs, num = (LevelSpec((3,), (2,)),), 20_000
    prior = absorbing(specs, None)
    mask = torch.tensor([[False, True, False]]).expand(num, -1)
    known = Codes.from_flat(torch.tensor([[0, 1, 0]]).expand(num, -1), specs, mask)
    codes = Codes.from_flat(torch.tensor([[a, 1, b] for a in (0, 1) for b in (0, 1)]), specs)
    told = every_prediction(prior, codes, Conditioning()).exp()
    begun = told[0b010]
    expected = (begun[:, 0] * told[0b011, :, 2] + begun[:, 2] * told[0b110, :, 0]) / 2
    drawn = prior.sample(num, seed=0, known=known, steps=3).flat()
    found = (drawn.unsqueeze(1) == codes.flat()).all(-1).double().mean(0)
    assert expected.sum().item() == pytest.approx(1)
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / num).sqrt()).all()


@pytest.mark.parametrize("order", ["random", "confidence"])
@pytest.mark.parametrize("steps", [1, 3, 7, 20, 50])
def test_what_is_known_stays_and_the_rest_is_drawn_in_any_number_of_steps(order: str, steps: int):
    prior, codes = absorbing(WIDE, None, order=order), random_codes(WIDE, 30)
    shares = torch.arange(30).unsqueeze(1) / 29  # of nothing to everything
    mask = torch.rand(30, 20) <= shares
    known = Codes.from_flat(codes.flat(), WIDE, mask)
    drawn = prior.sample(30, seed=0, known=known, steps=steps).flat()
    assert torch.equal(drawn[mask], codes.flat()[mask])
    assert (drawn[~mask] != codes.flat()[~mask]).any()
    again = prior.sample(7, seed=0, first=9, known=known[9:16], steps=steps).flat()
    assert torch.equal(again, drawn[9:16])


@pytest.mark.parametrize("num", [1, 2, 5, 49, 1024])
@pytest.mark.parametrize("steps", [1, 2, 8, 49, 64, 5000])
def test_each_step_draws_at_least_one_slot_until_none_is_left(num: int, steps: int):
    left = [int(num_hidden(step, steps, torch.tensor(num))) for step in range(steps + 1)]
    drawn = [a - b for a, b in itertools.pairwise(left)]
    assert (left[0], left[-1]) == (num, 0)
    assert all(each >= 1 for each in drawn[: min(num, steps)])
    assert not any(drawn[min(num, steps) :])
    if steps >= num:
        assert drawn[:num] == [1] * num


def test_few_slots_are_drawn_at_first():
    left = [int(num_hidden(step, 8, torch.tensor(1000))) for step in range(9)]
    assert left == [math.floor(1000 * math.cos(math.pi * step / 16)) for step in range(8)] + [0]


def test_confidence_without_noise_keeps_the_most_probable_draws():
    """In the first of two steps of top_k 1, those whose log-probability is greatest."""
    prior = absorbing(WIDE, None, order="confidence", confidence_noise=0.0)
    flat = torch.zeros(1, 20, dtype=torch.int64)
    told = prior.told(1, Conditioning(), None)
    nothing = torch.zeros_like(flat, dtype=torch.bool)
    logits = prior.network.embedding.every_logits(prior.predict(flat, nothing, told))
    best, chosen = logits.log_softmax(-1).max(-1)
    first = best[0].topk(20 - int(num_hidden(1, 2, torch.tensor(20)))).indices
    known = nothing.clone()
    known[0, first] = True
    logits = prior.network.embedding.every_logits(prior.predict(chosen, known, told))
    expected = torch.where(known, chosen, logits.argmax(-1))
    assert torch.equal(prior.sample(1, seed=5, steps=2, top_k=1).flat(), expected)


@pytest.mark.parametrize("order", ["random", "confidence"])
def test_guidance_moves_every_draw_toward_its_class(order: str):
    prior = absorbing(WIDE, order=order, drop_conditioning=0.1, bound_draws=4)
    given = Conditioning(torch.zeros(200, dtype=torch.int64))
    draws = [prior.sample(200, given, seed=0, guidance=g, steps=4) for g in (0.0, 1.0, 3.0)]
    told = [prior.told(200, given, None), prior.told(200, Conditioning(), None)]
    nothing = torch.zeros(200, 20, dtype=torch.bool)
    ratios = []
    for codes in draws:
        flat = codes.flat()
        with torch.no_grad():
            nats = [
                prior.network.embedding.nats(prior.predict(flat, nothing, t), flat) for t in told
            ]
        ratios.append(float((nats[1] - nats[0]).mean()))
    assert ratios == sorted(ratios)
    assert torch.equal(draws[0].flat(), prior.sample(200, seed=0, steps=4).flat())


def test_too_many_slots_to_go_through_are_refused():
    with pytest.raises(ValueError, match=r"items have 20 slots, too many.*at most 12"):
        absorbing(WIDE).exact_bound(random_codes(WIDE, 1), labels_of(1))


def test_half_batches_with_noise_have_the_gradient_of_the_whole():
    prior = absorbing(drop_conditioning=0.3).train()
    codes, given = random_codes(SPACE, 6, masked=True), labels_of(6)
    gradients = []
    for parts in ([slice(0, 6)], [slice(0, 2), slice(2, 6)]):
        prior.zero_grad()
        for part in parts:
            with noise(0, 3, torch.arange(6)[part]):
                prior.loss(codes[part], given[part])["nats_per_token"].total.backward()
        gradients.append([p.grad.clone() for p in prior.parameters() if p.grad is not None])
    assert_close(gradients[1], gradients[0], rtol=0, atol=1e-12)


def test_numbers_of_sets_are_those_of_the_standard_library():
    pairs = [(n, k) for n in range(13) for k in range(n + 1)]
    n, k = (torch.tensor(column) for column in zip(*pairs, strict=True))
    assert binomial(n, k).tolist() == [math.comb(*pair) for pair in pairs]


def test_every_parameter_gets_a_gradient():
    prior = absorbing().train()
    with noise(0, 0, torch.arange(40)):
        prior.loss(random_codes(SPACE, 40), labels_of(40))["nats_per_token"].value.backward()
    assert all(p.grad is not None and p.grad.count_nonzero() for p in prior.parameters())


def test_it_learns_what_frequencies_cannot_tell():
    """All integers of an item are the same: one that is known tells the others."""
    specs = (LevelSpec((2, 2), (8,)),)
    codes = Codes.from_flat(torch.arange(8).unsqueeze(1).expand(-1, 4), specs)
    torch.manual_seed(0)
    prior = replace(SMALL, width=32, dropout=0.0).build(specs)
    optimizer = torch.optim.Adam(prior.parameters(), lr=3e-3)
    many = Codes.cat([codes] * 8)
    for step in range(300):
        with noise(0, step, torch.arange(64)):
            prior.train().loss(many)["nats_per_token"].value.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert prior.eval().exact_bound(codes).mean() > -2.4  # log 8 = 2.08; 8.3 if independent
    drawn = prior.sample(200, seed=0, steps=4).flat()
    assert (drawn == drawn[:, :1]).all(1).double().mean() > 0.95
    assert len(drawn[:, 0].unique()) == 8
