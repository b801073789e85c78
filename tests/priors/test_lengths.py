"""Items of unequal length: their lengths are part of what is probable, and are drawn."""

import itertools
import math

import pytest
import torch
from tests.priors.spaces import (
    CLASSES,
    EXACT,
    LEARNED,
    PRIORS,
    Pair,
    labels_of,
    log_prob_or_bound,
    make,
    pairs,
    random_codes,
)
from torch.testing import assert_close

from vqkit.codes import Codes, Level, LevelSpec
from vqkit.data import Example
from vqkit.priors import Conditioning, Lengths, Prior, PriorConfig
from vqkit.priors.lengths import box, extents_of, num_extents

LINE = (LevelSpec((3,), (2,)),)
SQUARE = (LevelSpec((2, 2), (2,)),)
TWO = (LevelSpec((2,), (2,)), LevelSpec((2,), (2, 3), "residual"))
SPACES = {"line": LINE, "square": SQUARE, "two levels": TWO}


class Ragged:
    """Rows of the given extents as examples."""

    def __init__(self, extents: list[tuple[int, ...]], specs: tuple[LevelSpec, ...]) -> None:
        self.masks = [box(extent, specs) for extent in extents]

    def __len__(self) -> int:
        return len(self.masks)

    def example(self, index: int, seed: int | None = None) -> Example:
        mask = self.masks[index]
        return Example(torch.zeros(len(mask), dtype=torch.int64), None, mask)


def seen(specs: tuple[LevelSpec, ...]) -> Lengths:
    """Lengths of five items: short ones more often."""
    full = tuple(length for spec in specs for length in spec.grid)
    ones = tuple(1 for _ in full)
    return Lengths.of(Ragged([ones, ones, ones, full, full], specs), specs)


def every_extent(specs: tuple[LevelSpec, ...]) -> list[tuple[int, ...]]:
    """All that an item can be, written out level by level."""
    levels = []
    for spec in specs:
        boxes = list(itertools.product(*(range(1, length + 1) for length in spec.grid)))
        levels.append([tuple(0 for _ in spec.grid), *boxes])
    return [sum(parts, ()) for parts in itertools.product(*levels)]


def every_item(specs: tuple[LevelSpec, ...]) -> Codes:
    """Each item of each length once."""
    rows, masks = [], []
    sizes = [
        size for spec in specs for _ in range(math.prod(spec.grid)) for size in spec.codebook_sizes
    ]
    for extent in every_extent(specs):
        mask = box(extent, specs)
        sizes = [
            s for spec in specs for _ in range(math.prod(spec.grid)) for s in spec.codebook_sizes
        ]
        ranges = [range(size) if real else [0] for size, real in zip(sizes, mask, strict=True)]
        for row in itertools.product(*ranges):
            rows.append(row)
            masks.append(mask)
    return Codes.from_flat(torch.tensor(rows), specs, torch.stack(masks))


@pytest.fixture(params=pairs(PRIORS, SPACES))
def pair(request: pytest.FixtureRequest) -> Pair:
    return request.param


@pytest.fixture
def prior(config: PriorConfig, specs: tuple[LevelSpec, ...]) -> Prior:
    return make(config, specs, CLASSES, lengths=seen(specs))


@pytest.mark.parametrize("specs", SPACES.values(), ids=SPACES.keys())
def test_the_extents_counted_are_all_that_there_are(specs: tuple[LevelSpec, ...]):
    assert num_extents(specs) == len(every_extent(specs))


@pytest.mark.parametrize("specs", SPACES.values(), ids=SPACES.keys())
def test_an_extent_is_that_of_its_box(specs: tuple[LevelSpec, ...]):
    extents = every_extent(specs)
    masks = torch.stack([box(extent, specs) for extent in extents])
    assert extents_of(masks, specs).tolist() == [list(extent) for extent in extents]


def test_the_probabilities_of_all_items_of_all_lengths_sum_to_one(prior: Prior):
    codes = every_item(prior.specs)
    given = Conditioning(torch.ones(len(codes), dtype=torch.int64))
    total = log_prob_or_bound(prior.double(), codes, given).exp().sum()
    if prior.exact:
        assert_close(total, torch.ones_like(total), rtol=0, atol=1e-12)
    assert 0.1 < total < 1 + 1e-12


def test_lengths_are_drawn_as_often_as_they_are_probable(prior: Prior):
    num = 4000
    drawn = prior.sample(num, Conditioning(torch.zeros(num, dtype=torch.int64)), seed=0)
    mask = drawn.flat_mask()
    assert mask is not None
    assert (drawn.flat()[~mask] == 0).all()
    assert prior.lengths is not None
    found = [tuple(row) for row in extents_of(mask, prior.specs).tolist()]
    for extent in every_extent(prior.specs):
        row = box(extent, prior.specs).unsqueeze(0)
        p = float(prior.lengths.log_prob(row, prior.specs, 1).exp())
        spread = math.sqrt(p * (1 - p) / num)
        assert abs(found.count(extent) / num - p) < 5 * spread + 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("pair", pairs(EXACT, SPACES))
def test_samples_of_all_lengths_come_as_often_as_their_probability_says(prior: Prior):
    num, codes = 20_000, every_item(prior.specs)
    given = Conditioning(torch.ones(num, dtype=torch.int64))
    expected = prior.log_prob(codes, Conditioning(given.labels[: len(codes)])).exp()
    drawn = prior.sample(num, given, seed=0)
    both = [torch.cat([c.flat(), c.flat_mask()], dim=1) for c in (drawn, codes)]
    matches = (both[0].unsqueeze(1) == both[1]).all(-1).double().mean(0)
    deviation = (expected * (1 - expected) / num).sqrt()
    assert ((matches - expected).abs() <= 5 * deviation + 2 / num).all()  # the rarest come once


def test_a_length_holds_what_is_known(prior: Prior):
    codes = random_codes(prior.specs, 50)
    levels = []
    for level in codes.levels:
        mask = torch.zeros(level.indices.shape[:-1], dtype=torch.bool)
        if not levels:
            mask.flatten(1)[:, 0] = True  # the first position of the first level
        levels.append(Level(level.indices, level.codebook_sizes, level.structure, mask))
    known = Codes(tuple(levels))
    drawn = prior.sample(50, labels_of(50), seed=3, known=known)
    mask = known.flat_mask()
    assert mask is not None
    assert drawn.flat_mask()[mask].all()
    assert torch.equal(drawn.flat()[mask], codes.flat()[mask])


def test_the_loss_includes_the_length(prior: Prior):
    codes = every_item(prior.specs)
    loss = prior.double().loss(codes, labels_of(len(codes)))["nats_per_token"]
    assert_close(loss.total, -prior.log_prob(codes, labels_of(len(codes))).sum())


def test_items_with_holes_have_no_length():
    prior = make(PRIORS["uniform"], LINE, lengths=seen(LINE))
    mask = torch.tensor([[True, False, True]])
    with pytest.raises(ValueError, match="no box that begins at the corner"):
        prior.log_prob(Codes.from_flat(torch.zeros(1, 3, dtype=torch.int64), LINE, mask))


def test_what_was_never_seen_is_improbable_and_not_impossible():
    lengths = seen(LINE)
    never = box((2,), LINE).unsqueeze(0)
    often = box((1,), LINE).unsqueeze(0)
    assert lengths.log_prob(never, LINE, 1) == pytest.approx(math.log(1 / 4 / 6))
    assert lengths.log_prob(often, LINE, 1) == pytest.approx(math.log((3 + 1 / 4) / 6))


@pytest.mark.parametrize("name", [name for name in LEARNED if "diffusion" not in name])
@torch.no_grad()
def test_a_network_is_told_how_long_the_item_is(name: str):
    """The first code costs other nats where more follow."""
    prior = make(PRIORS[name], LINE, CLASSES, lengths=seen(LINE))
    flat = torch.zeros(2, 3, dtype=torch.int64)
    masks = torch.stack([box((1,), LINE), box((3,), LINE)])
    nats = prior.nats(Codes.from_flat(flat, LINE, masks), Conditioning(torch.tensor([0, 0])))
    assert nats[0, 0] != nats[1, 0]


@pytest.mark.parametrize(
    ("extents", "counts", "message"),
    [
        (((1,), (1,)), (1, 2), "twice"),
        (((9,),), (1,), "9 along an axis of 3"),
        (((1, 1),), (1,), "axes"),
        (((1,),), (-1,), "negative"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(extents: tuple, counts: tuple, message: str):
    with pytest.raises(ValueError, match=message):
        PRIORS["uniform"].build(LINE, None, Lengths(extents, counts))
