"""What a prior is told makes a difference, and what does not fit is refused."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.priors.spaces import CLASSES, LEARNED, PRIORS, SPACES, labels_of, make, random_codes
from torch.testing import assert_close

from vqkit.codes import LevelSpec
from vqkit.nn.dropout import noise
from vqkit.priors import Conditioning, ConditioningSpec, Prior
from vqkit.priors.conditioner import at_grid

GRID = (LevelSpec((2, 2), (5,)),)
TOLD = ConditioningSpec(num_classes=CLASSES, vector_dim=3, map_channels=2)


def told(num: int, seed: int = 0) -> Conditioning:
    """Labels, five vectors of which the last two are not real, and a map of 4 x 4."""
    draws = torch.Generator().manual_seed(seed)
    mask = torch.ones(num, 5, dtype=torch.bool)
    mask[:, 3:] = False
    vectors = torch.randn(num, 5, 3, generator=draws)
    spatial = torch.randn(num, 2, 4, 4, generator=draws)
    return Conditioning(labels_of(num).labels, vectors, mask, spatial)


def build(name: str, spec: ConditioningSpec, drop: float = 0.0) -> Prior:
    config: Any = PRIORS[name]
    return make(replace(config, drop_conditioning=drop), GRID, conditioning=spec).double()


@pytest.mark.parametrize("part", ["labels", "vectors", "spatial"])
@pytest.mark.parametrize("name", LEARNED)
def test_what_is_told_changes_probabilities_and_samples(name: str, part: str):
    prior, codes = build(name, TOLD), random_codes(GRID, 400)
    given, other = told(400), told(400, seed=1)
    value = (given.labels + 1) % CLASSES if part == "labels" else getattr(other, part)
    changed = replace(given, **{part: value})
    assert (prior.log_prob(codes, given) != prior.log_prob(codes, changed)).all()
    drawn = [prior.sample(400, g, seed=0, temperature=3).flat() for g in (given, changed)]
    assert not torch.equal(*drawn)


@pytest.mark.parametrize("name", LEARNED)
def test_a_map_tells_each_position_of_its_own_place(name: str):
    """Two items whose maps differ in one corner: the costs differ most there before mixing."""
    prior, codes = build(name, ConditioningSpec(map_channels=2)), random_codes(GRID, 1)
    plain = torch.zeros(1, 2, 2, 2).double()
    corner = plain.clone()
    corner[..., 1, 1] = 3
    nats = [prior.nats(codes, Conditioning(spatial=map_)) for map_ in (plain, corner)]
    changed = nats[0] != nats[1]
    assert changed[0, 3]


@pytest.mark.parametrize("name", LEARNED)
def test_what_vectors_that_are_not_real_hold_changes_nothing_in_one_bit(name: str):
    prior, codes, given = build(name, TOLD), random_codes(GRID, 6), told(6)
    assert given.vectors is not None
    vectors = given.vectors.clone()
    vectors[:, 3:] = 99
    other = replace(given, vectors=vectors)
    assert torch.equal(prior.log_prob(codes, given), prior.log_prob(codes, other))


@pytest.mark.parametrize("name", LEARNED)
def test_the_order_of_an_item_in_its_batch_changes_nothing(name: str):
    prior, codes, given = build(name, TOLD), random_codes(GRID, 6), told(6)
    whole = prior.log_prob(codes, given)
    parts = torch.cat([prior.log_prob(codes[i : i + 1], given[i : i + 1]) for i in range(6)])
    assert_close(parts, whole, rtol=1e-9, atol=1e-9)
    drawn = prior.sample(6, given, seed=2).flat()
    last = prior.sample(2, given[4:], seed=2, first=4).flat()
    assert torch.equal(last, drawn[4:])


@pytest.mark.parametrize("name", LEARNED)
def test_conditioning_may_be_left_out_only_if_training_drops_it(name: str):
    codes = random_codes(GRID, 3)
    with pytest.raises(ValueError, match="labels are missing; give one of 0 to 2"):
        build(name, TOLD).log_prob(codes)
    with pytest.raises(ValueError, match="vectors are missing"):
        build(name, TOLD).sample(3, replace(told(3), vectors=None, vectors_mask=None), seed=0)
    with pytest.raises(ValueError, match="spatial is missing"):
        build(name, TOLD).loss(codes, replace(told(3), spatial=None))
    prior = build(name, TOLD, drop=0.2)
    assert (prior.log_prob(codes) != prior.log_prob(codes, told(3))).all()
    assert len(prior.sample(3, seed=0)) == 3


@pytest.mark.parametrize("name", LEARNED)
def test_training_drops_all_conditioning_of_some_items_and_evaluation_of_none(name: str):
    config: Any = replace(PRIORS[name], drop_conditioning=0.5, dropout=0.0)
    prior = make(config, GRID, conditioning=TOLD).double()
    codes, given = random_codes(GRID, 64), told(64)
    expected, without = prior.nats(codes, given), prior.nats(codes)
    if prior.exact:
        with noise(0, 0, torch.arange(64)):
            found = prior.train().nats(codes, given)
        kept = (found - expected).abs().amax(1) < 1e-9
        dropped = (found - without).abs().amax(1) < 1e-9
        assert (kept ^ dropped).all()
        assert 15 < int(dropped.sum()) < 49
    assert torch.equal(prior.eval().nats(codes, given), expected)


@pytest.mark.parametrize("name", LEARNED)
def test_guidance_of_one_changes_nothing_and_more_holds_closer_to_the_class(name: str):
    prior = build(name, ConditioningSpec(num_classes=CLASSES), drop=0.1)
    num = 2000
    given = Conditioning(torch.zeros(num, dtype=torch.int64))
    plain = prior.sample(num, given, seed=0)
    assert torch.equal(prior.sample(num, given, seed=0, guidance=1.0).flat(), plain.flat())
    guided = prior.sample(num, given, seed=0, guidance=3.0)
    free = prior.sample(num, given, seed=0, guidance=0.0)

    def tells_the_class(codes: Any) -> float:
        return float((prior.log_prob(codes, given) - prior.log_prob(codes)).detach().mean())

    assert tells_the_class(guided) > tells_the_class(plain) > tells_the_class(free)
    assert torch.equal(free.flat(), prior.sample(num, seed=0).flat())


@pytest.mark.parametrize("name", LEARNED)
def test_guidance_is_refused_where_it_was_not_learned(name: str):
    with pytest.raises(ValueError, match=r"guidance is 2\.0.*train the prior with drop_condit"):
        build(name, TOLD).sample(2, told(2), seed=0, guidance=2.0)
    with pytest.raises(ValueError, match=r"guidance is 2\.0.*leave it at 1"):
        build(name, ConditioningSpec()).sample(2, seed=0, guidance=2.0)
    with pytest.raises(ValueError, match=r"guidance is -1"):
        build(name, TOLD, drop=0.1).sample(2, told(2), seed=0, guidance=-1.0)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (Conditioning(vectors=torch.zeros(2, 5, 4)), r"vectors have shape \(2, 5, 4\)"),
        (Conditioning(vectors=torch.zeros(3, 5, 3)), r"give \(2, any number, 3\)"),
        (
            Conditioning(vectors=torch.zeros(2, 5, 3), vectors_mask=torch.ones(2, 4).bool()),
            r"vectors_mask has shape \(2, 4\)",
        ),
        (Conditioning(vectors_mask=torch.ones(2, 4).bool()), "without vectors"),
        (Conditioning(spatial=torch.zeros(2, 3, 4, 4)), r"give \(2, 2, \*grid\)"),
        (Conditioning(vectors=torch.full((2, 5, 3), torch.nan)), "vectors hold inf or nan"),
        (Conditioning(spatial=torch.full((2, 2, 4, 4), torch.inf)), "spatial holds inf or nan"),
    ],
)
def test_conditioning_that_cannot_be_read_is_refused(given: Conditioning, message: str):
    prior = build("transformer", TOLD, drop=0.1)
    with pytest.raises(ValueError, match=message):
        prior.sample(2, given, seed=0)


def test_conditioning_that_a_prior_is_not_told_is_refused():
    prior = make(PRIORS["transformer"], SPACES["one level"])
    with pytest.raises(ValueError, match="vectors were given to a prior that is told none"):
        prior.sample(2, Conditioning(vectors=torch.zeros(2, 1, 3)), seed=0)
    with pytest.raises(ValueError, match="a map was given to a prior that is told none"):
        prior.sample(2, Conditioning(spatial=torch.zeros(2, 1, 3, 3)), seed=0)


@pytest.mark.parametrize("name", LEARNED)
@pytest.mark.parametrize("grid", [(), (3,), (2, 2)])
def test_a_map_is_told_to_levels_of_any_grid(name: str, grid: tuple[int, ...]):
    config: Any = PRIORS[name]
    specs = (LevelSpec(grid, (4, 4), "product"),)
    prior = make(config, specs, conditioning=ConditioningSpec(map_channels=2))
    given = Conditioning(spatial=torch.randn(3, 2, 5, 4))
    drawn = prior.sample(3, given, seed=0)
    assert prior.log_prob(drawn, given).isfinite().all()


@pytest.mark.parametrize("size", [(8, 8), (9, 7), (2, 2), (1, 3), (4, 4)])
def test_every_place_of_a_map_counts(size: tuple[int, int]):
    spatial = torch.randn(1, 1, *size, requires_grad=True)
    at_grid(spatial, (4, 4)).square().sum().backward()
    assert (spatial.grad != 0).all()


@pytest.mark.parametrize("name", LEARNED)
def test_training_that_hides_conditioning_by_chance_has_to_know_the_step(name: str):
    prior = build(name, ConditioningSpec(num_classes=CLASSES), drop=0.5).train()
    with pytest.raises(RuntimeError, match="needs to know the step"):
        prior.loss(random_codes(GRID, 3), labels_of(3))


@pytest.mark.parametrize("name", LEARNED)
def test_samples_are_the_same_under_autocast_and_in_training(name: str):
    prior = build(name, ConditioningSpec(num_classes=CLASSES), drop=0.9).float()
    expected = prior.sample(5, labels_of(5), seed=0).flat()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(prior.sample(5, labels_of(5), seed=0).flat(), expected)
    with noise(0, 0, torch.arange(3)):
        assert torch.equal(prior.train().sample(5, labels_of(5), seed=0).flat(), expected)
