"""What must hold for every prior. A new prior is one more line in PRIORS."""

import math
from pathlib import Path

import pytest
import torch
from tests.priors.spaces import (
    CLASSES,
    every_code,
    labels_of,
    log_prob_or_bound,
    make,
    random_codes,
)
from torch.testing import assert_close

from vqkit import storage
from vqkit.codes import Codes, LevelSpec
from vqkit.means import Mean
from vqkit.nn.dropout import noise
from vqkit.priors import (
    Conditioning,
    DiffusionPrior,
    Prior,
    PriorConfig,
)

LOSS = "nats_per_token"


def gradients(prior: Prior) -> dict[str, torch.Tensor | None]:
    return {name: parameter.grad for name, parameter in prior.named_parameters()}


def check_total(prior: Prior, total: torch.Tensor, expected: float = 1.0) -> None:
    """Probabilities sum to one; bounds of them to less, and to more than nothing."""
    if prior.exact:
        assert total.item() == pytest.approx(expected, rel=1e-12)
    else:
        assert 0.01 * expected < total < expected * (1 + 1e-12)


@pytest.mark.parametrize("label", range(CLASSES))
def test_the_probabilities_of_all_codes_sum_to_one(prior: Prior, label: int):
    codes = every_code(prior.specs)
    given = Conditioning(torch.full((len(codes),), label))
    check_total(prior, log_prob_or_bound(prior.double(), codes, given).exp().sum())


def test_without_classes_they_sum_to_one_too(config: PriorConfig, specs: tuple[LevelSpec, ...]):
    prior = make(config, specs, None).double()
    check_total(prior, log_prob_or_bound(prior, every_code(specs)).exp().sum())


def test_with_a_mask_those_of_the_real_integers_sum_to_one(prior: Prior):
    codes = every_code(prior.specs)
    hidden = prior.slot_sizes.tolist()[-prior.slots[-1].where.step :]
    mask = torch.ones_like(codes.flat(), dtype=torch.bool)
    mask[:, -len(hidden) :] = False
    masked = Codes.from_flat(codes.flat(), prior.specs, mask)
    given = Conditioning(torch.zeros_like(mask[:, 0]).long())
    total = log_prob_or_bound(prior.double(), masked, given).exp().sum()
    check_total(prior, total, math.prod(hidden))  # each point once for each masked integer


def test_the_log_probability_of_an_item_is_its_own(prior: Prior):
    codes, given = random_codes(prior.specs, 7, masked=True), labels_of(7)
    together = prior.log_prob(codes, given)
    assert together.shape == (7,)
    assert together.dtype == torch.float64
    for i in range(7):
        alone = prior.log_prob(codes[i : i + 1], Conditioning(given.labels[i : i + 1]))
        assert_close(alone[0], together[i], rtol=1e-5, atol=1e-5)


def test_the_loss_is_minus_the_log_probability_over_the_number_of_integers(prior: Prior):
    codes, given = random_codes(prior.specs, 7, masked=True), labels_of(7)
    loss = prior.loss(codes, given)[LOSS]
    assert loss.count == codes.flat_mask().sum()
    assert_close(loss.total.double(), -prior.log_prob(codes, given).sum(), rtol=1e-6, atol=0)


def test_the_counts_are_those_of_the_loss(prior: Prior):
    for masked in (False, True):
        codes = random_codes(prior.specs, 7, masked=masked)
        loss, counts = prior.loss(codes, labels_of(7)), prior.counts(codes)
        assert {name: mean.count for name, mean in loss.items()} == counts
        assert all(count.dtype == torch.int64 for count in counts.values())


def test_the_loss_of_a_split_batch_equals_that_of_the_whole(prior: Prior):
    """In totals and counts: masks make the counts unequal, and the mean of means is another."""
    codes, given = random_codes(prior.specs, 9, masked=True), labels_of(9)
    parts = [slice(0, 1), slice(1, 4), slice(4, 9)]
    losses = [prior.loss(codes[s], Conditioning(given.labels[s]))[LOSS] for s in parts]
    joined = sum(losses[1:], start=losses[0])
    assert_close(joined.value, prior.loss(codes, given)[LOSS].value)
    assert joined.count == codes.flat_mask().sum()


def test_what_masked_positions_hold_changes_nothing_in_one_bit(prior: Prior):
    codes, given = random_codes(prior.specs, 9, masked=True), labels_of(9)
    mask = codes.flat_mask()
    valid = random_codes(prior.specs, 9).flat()
    other = Codes.from_flat(torch.where(mask, codes.flat(), valid), prior.specs, mask)
    assert torch.equal(prior.log_prob(codes, given), prior.log_prob(other, given))
    found = []
    for batch in (codes, other):
        prior.zero_grad()
        loss = prior.loss(batch, given)[LOSS].value
        if loss.requires_grad:
            loss.backward()
        found.append((loss, gradients(prior)))
    assert_close(found[0], found[1], rtol=0, atol=0)


def test_a_mask_that_hides_nothing_changes_nothing_in_one_bit(prior: Prior):
    codes, given = random_codes(prior.specs, 5), labels_of(5)
    mask = torch.ones_like(codes.flat(), dtype=torch.bool)
    masked = Codes.from_flat(codes.flat(), prior.specs, mask)
    assert torch.equal(prior.log_prob(codes, given), prior.log_prob(masked, given))


@pytest.mark.parametrize("num", [0, 4], ids=["empty", "all masked"])
def test_a_batch_without_real_integers_costs_and_moves_nothing(prior: Prior, num: int):
    flat = torch.zeros(num, len(prior.slot_sizes), dtype=torch.int64)
    codes = Codes.from_flat(flat, prior.specs, torch.zeros_like(flat, dtype=torch.bool))
    loss = prior.loss(codes, labels_of(num))[LOSS]
    assert loss.total == loss.count == loss.value == 0
    if loss.total.requires_grad:
        loss.total.backward()
        assert all((p.grad == 0).all() for p in prior.parameters())


def test_losses_do_not_change_when_the_batch_is_repeated(prior: Prior):
    codes, given = random_codes(prior.specs, 5), labels_of(5)
    twice = Conditioning(torch.cat([given.labels, given.labels]))
    repeated = prior.loss(Codes.cat([codes, codes]), twice)[LOSS]
    assert_close(repeated.value, prior.loss(codes, given)[LOSS].value)


def test_log_probabilities_and_samples_are_without_dropout_in_training_mode_too(prior: Prior):
    codes, given = random_codes(prior.specs, 5), labels_of(5)
    with noise(0, 0, torch.arange(5)):
        trained = prior.train().log_prob(codes, given)
    drawn = prior.train().sample(5, given, seed=0)
    prior.eval()
    assert torch.equal(trained, prior.log_prob(codes, given))
    assert torch.equal(drawn.flat(), prior.sample(5, given, seed=0).flat())


@pytest.mark.parametrize("num", [0, 1, 5])
def test_samples_are_codes_of_the_same_levels(prior: Prior, num: int):
    codes = prior.sample(num, labels_of(num), seed=1)
    assert codes.specs == prior.specs
    assert len(codes) == num
    assert codes.flat_mask() is None
    assert codes.flat().dtype == torch.int64
    prior.check_codes(codes)


def test_samples_come_as_often_as_their_probability_says(faithful_prior: Prior):
    """At least as often, where there is a bound of it alone."""
    prior, num = faithful_prior, 20_000
    codes = every_code(prior.specs)
    given = Conditioning(torch.ones(num, dtype=torch.int64))
    expected = log_prob_or_bound(prior, codes, Conditioning(given.labels[: len(codes)])).exp()
    steps = prior.most_steps if isinstance(prior, DiffusionPrior) else None
    drawn = prior.sample(num, given, seed=0, steps=steps).flat()
    matches = (drawn.unsqueeze(1) == codes.flat()).all(-1).double().mean(0)
    rare = expected * num < 10  # together, for the counts of each are far from normal
    matches, expected = (torch.cat([p[~rare], p[rare].sum().view(1)]) for p in (matches, expected))
    deviation = (expected * (1 - expected) / num).sqrt()
    assert (matches - expected >= -5 * deviation - 1e-6).all()
    if prior.exact:
        assert (matches - expected <= 5 * deviation + 1e-6).all()


def test_a_sample_depends_on_its_number_and_not_on_its_batch(prior: Prior):
    """Odd sizes included: 11 at once are 4 and 7, or the last one alone."""
    prior.double()
    whole = prior.sample(11, labels_of(11), seed=3, first=100).flat()
    labels = labels_of(11).labels
    head = prior.sample(4, Conditioning(labels[:4]), seed=3, first=100).flat()
    tail = prior.sample(7, Conditioning(labels[4:]), seed=3, first=104).flat()
    last = prior.sample(1, Conditioning(labels[10:]), seed=3, first=110).flat()
    assert torch.equal(torch.cat([head, tail]), whole)
    assert torch.equal(last, whole[10:])


def test_another_seed_draws_others(prior: Prior):
    first, second = (prior.sample(50, labels_of(50), seed=seed).flat() for seed in (0, 1))
    assert not torch.equal(first, second)


def most_probable_by_enumeration(prior: Prior, label: int) -> list[int]:
    """At each slot the most probable entry after those before it, p summed over what follows."""
    codes = every_code(prior.specs)
    given = Conditioning(torch.full((len(codes),), label))
    p, flat = prior.log_prob(codes, given).exp(), codes.flat()
    chosen = []
    for slot, size in enumerate(prior.slot_sizes.tolist()):
        sums = torch.stack([p[flat[:, slot] == entry].sum() for entry in range(size)])
        chosen.append(int((sums > sums.max() * (1 - 1e-9)).byte().argmax()))  # the lowest of equals
        kept = flat[:, slot] == chosen[-1]
        p, flat = p[kept], flat[kept]
    return chosen


@pytest.mark.parametrize("options", [{"top_k": 1}, {"top_p": 1e-9}, {"top_p": 0.0}], ids=str)
def test_one_entry_left_is_the_most_probable_and_the_lowest_on_ties(
    exact_prior: Prior, options: dict
):
    prior = exact_prior.double()
    expected = [most_probable_by_enumeration(prior, label) for label in range(CLASSES)]
    drawn = prior.sample(CLASSES, labels_of(CLASSES), seed=0, **options)
    assert drawn.flat().tolist() == expected


@pytest.mark.parametrize("options", [{"top_p": 1e-9}, {"top_p": 0.0}], ids=str)
def test_every_way_of_leaving_one_entry_draws_the_same(prior: Prior, options: dict):
    prior.double()
    drawn = prior.sample(30, labels_of(30), seed=0, **options)
    assert torch.equal(drawn.flat(), prior.sample(30, labels_of(30), seed=0, top_k=1).flat())


@pytest.mark.parametrize("num_classes", [None, CLASSES])
def test_a_saved_prior_comes_back_bit_for_bit(
    config: PriorConfig, specs: tuple[LevelSpec, ...], num_classes: int | None, tmp_path: Path
):
    prior = make(config, specs, num_classes)
    prior.save_pretrained(tmp_path / "prior")
    again = Prior.from_pretrained(tmp_path / "prior")
    assert type(again) is type(prior)
    assert (again.config, again.specs, again.num_classes) == (config, specs, num_classes)
    assert not again.training
    codes, given = random_codes(specs, 5), labels_of(5) if num_classes else None
    assert torch.equal(again.log_prob(codes, given), prior.log_prob(codes, given))
    drawn = prior.sample(5, given, seed=0).flat()
    assert torch.equal(again.sample(5, given, seed=0).flat(), drawn)
    assert storage.fingerprint(again) == storage.fingerprint(prior)


def test_the_loss_is_a_mean_by_name(prior: Prior):
    loss = prior.loss(random_codes(prior.specs, 2), labels_of(2))
    assert list(loss) == [LOSS]
    assert isinstance(loss[LOSS], Mean)
