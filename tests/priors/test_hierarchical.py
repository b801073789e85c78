"""What must hold for the prior of several levels in particular."""

from dataclasses import replace

import pytest
import torch
from tests.priors.spaces import CLASSES, PRIORS, labels_of, make, random_codes
from torch.testing import assert_close

from vqkit.codes import Codes, Level, LevelSpec
from vqkit.nn.dropout import noise
from vqkit.priors import (
    Conditioning,
    ConditioningSpec,
    HierarchicalConfig,
    HierarchicalPrior,
    PixelCNNConfig,
    Prior,
    TransformerConfig,
)

SPECS = (LevelSpec((1, 2), (3,)), LevelSpec((2, 4), (4,)))
TOP = TransformerConfig(layers=1, width=16, heads=2, dropout=0.1)
BOTTOM = PixelCNNConfig(layers=2, width=12, dropout=0.1)


def hierarchical() -> HierarchicalPrior:
    made = make(PRIORS["hierarchical"], SPECS, CLASSES)
    assert isinstance(made, HierarchicalPrior)
    return made.double()


def known(codes: Codes, *masks: torch.Tensor) -> Codes:
    """Codes of which the masks (grid) tell what is known."""
    levels = [
        Level(level.indices, level.codebook_sizes, level.structure, mask.expand(len(codes), -1, -1))
        for level, mask in zip(codes.levels, masks, strict=True)
    ]
    return Codes(tuple(levels))


@torch.no_grad()
def test_the_top_costs_what_its_own_prior_says_whatever_is_below():
    prior, codes = hierarchical(), random_codes(SPECS, 5)
    top = prior.members[0]
    assert isinstance(top, Prior)
    alone = top.nats(Codes(codes.levels[:1]), labels_of(5))
    assert_close(prior.nats(codes, labels_of(5))[:, :2], alone)
    other = Codes((codes.levels[0], random_codes(SPECS, 5).levels[1]))
    assert torch.equal(
        prior.nats(other, labels_of(5))[:, :2], prior.nats(codes, labels_of(5))[:, :2]
    )


@torch.no_grad()
def test_what_is_below_depends_on_each_code_above():
    prior, codes = hierarchical(), random_codes(SPECS, 1)
    before = prior.nats(codes, labels_of(1))
    for slot in range(2):
        flat = codes.flat().clone()
        flat[:, slot] = (flat[:, slot] + 1) % 3
        after = prior.nats(Codes.from_flat(flat, SPECS), labels_of(1))
        assert (after[:, 2:] != before[:, 2:]).any()


@torch.no_grad()
def test_a_known_top_is_kept_and_the_bottom_drawn_from_it():
    prior = hierarchical()
    drawn = prior.sample(4, labels_of(4), seed=2)
    all_, none = torch.ones(1, 2, dtype=torch.bool), torch.zeros(2, 4, dtype=torch.bool)
    again = prior.sample(4, labels_of(4), seed=2, known=known(drawn, all_, none))
    assert torch.equal(again.flat(), drawn.flat())
    rows = none.clone()
    rows[0] = True
    again = prior.sample(4, labels_of(4), seed=3, known=known(drawn, all_, rows))
    assert torch.equal(again.levels[1].indices[:, 0], drawn.levels[1].indices[:, 0])


def test_codes_known_below_an_unknown_top_are_refused():
    prior, codes = hierarchical(), random_codes(SPECS, 2)
    masks = torch.zeros(1, 2, dtype=torch.bool), torch.ones(2, 4, dtype=torch.bool)
    with pytest.raises(ValueError, match="known codes of level 1 lie below a level that is not"):
        prior.sample(2, labels_of(2), seed=0, known=known(codes, *masks))


def test_one_member_for_each_level_or_one_clear_line():
    config = HierarchicalConfig(members=(TOP, BOTTOM))
    with pytest.raises(
        ValueError,
        match=r"prior.members is a list of 2 for 1 levels \(2x4 of 4 \(flat\)\); write one for",
    ):
        config.build(SPECS[1:])
    with pytest.raises(ValueError, match="a PixelCNN is a prior of one level, these are 2"):
        BOTTOM.build(SPECS)


def test_three_levels_and_grids_of_any_axes():
    specs = (LevelSpec((), (3,)), LevelSpec((5,), (4, 2), "residual"), LevelSpec((3, 2), (6,)))
    config = HierarchicalConfig(members=(TOP, TOP, BOTTOM), width=8)
    torch.manual_seed(0)
    prior = config.build(specs, ConditioningSpec(map_channels=2)).eval()
    codes, given = random_codes(specs, 3), Conditioning(spatial=torch.randn(3, 2, 4, 4))
    with pytest.raises(ValueError, match="spatial is missing"):
        prior.log_prob(codes)
    drawn = prior.sample(3, given, seed=0)
    assert drawn.specs == specs
    assert prior.log_prob(drawn, given).isfinite().all()
    before = prior.nats(codes, given)
    sizes, flat = prior.slot_sizes, codes.flat()
    for slot in range(flat.shape[1]):
        changed = flat.clone()
        changed[:, slot] = (changed[:, slot] + 1) % sizes[slot]
        after = prior.nats(Codes.from_flat(changed, specs), given)
        moved = (after != before).any(0)
        assert not moved[:slot].any()
        assert moved[slot]
        for start, size in ((1, 10), (11, 6)):  # a level knows all of those above
            if slot < start:
                assert moved[start : start + size].any()


def test_levels_do_not_share_the_numbers_they_are_drawn_by():
    """Two equal levels whose priors know nothing draw unlike codes."""
    specs = (LevelSpec((4, 4), (50,)), LevelSpec((4, 4), (50,)))
    prior = HierarchicalConfig(members=(TOP, TOP), width=8).build(specs).eval()
    for parameter in prior.parameters():
        torch.nn.init.zeros_(parameter)
    drawn = prior.sample(8, seed=0)
    same = drawn.levels[0].indices == drawn.levels[1].indices
    assert same.double().mean() < 0.15


NONE = HierarchicalConfig(members=(TOP, BOTTOM), width=8)


@torch.no_grad()
def test_guidance_and_dropped_conditioning_leave_the_levels_above_in_place():
    """What is left out is what the user tells; a level always knows those above it."""
    members = tuple(replace(member, drop_conditioning=0.5) for member in NONE.members)
    config = replace(NONE, members=members)
    prior = make(config, SPECS, CLASSES).double()
    plain = prior.sample(40, seed=1)
    free = prior.sample(40, labels_of(40), seed=1, guidance=0.0)
    assert torch.equal(free.flat(), plain.flat())
    codes = random_codes(SPECS, 200)
    changed = codes.flat().clone()
    changed[:, 0] = (changed[:, 0] + 1) % 3
    with noise(0, 0, torch.arange(200)):
        before = prior.train().nats(codes, labels_of(200))
    with noise(0, 0, torch.arange(200)):
        after = prior.nats(Codes.from_flat(changed, SPECS), labels_of(200))
    assert (before[:, 2:] != after[:, 2:]).any(1).all()


@torch.no_grad()
def test_the_users_map_reaches_every_level_beside_those_above():
    told = ConditioningSpec(map_channels=2)
    prior = make(NONE, SPECS, conditioning=told).double()
    codes, spatial = random_codes(SPECS, 6), torch.randn(6, 2, 4, 4).double()
    before = prior.nats(codes, Conditioning(spatial=spatial))
    after = prior.nats(codes, Conditioning(spatial=spatial + 1))
    assert (before[:, :2] != after[:, :2]).any(1).all()
    assert (before[:, 2:] != after[:, 2:]).any(1).all()


@torch.no_grad()
def test_what_masked_codes_above_hold_changes_nothing_below():
    prior, codes = hierarchical(), random_codes(SPECS, 5)
    mask = torch.ones_like(codes.flat(), dtype=torch.bool)
    mask[:, 1] = False
    changed = codes.flat().clone()
    changed[:, 1] = (changed[:, 1] + 1) % 3
    costs = [
        prior.nats(Codes.from_flat(flat, SPECS, mask), labels_of(5))
        for flat in (codes.flat(), changed)
    ]
    assert torch.equal(*costs)
    assert not torch.equal(costs[0], prior.nats(codes, labels_of(5)))


@pytest.mark.parametrize("grid", [(), (4,), (2, 3, 2)])
def test_a_level_below_may_have_any_grid(grid: tuple[int, ...]):
    specs = (LevelSpec((2,), (4,)), LevelSpec(grid, (3, 3), "product"))
    torch.manual_seed(0)
    prior = HierarchicalConfig(members=(TOP, TOP), width=8).build(specs).eval()
    drawn = prior.sample(3, seed=0)
    assert drawn.specs == specs
    assert prior.log_prob(drawn).isfinite().all()
