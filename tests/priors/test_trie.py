"""Samples that keep to valid codes."""

from collections import Counter

import pytest
import torch
from tests.priors.spaces import PRIORS, SPACES, every_code, make, pairs

from vqkit.codes import Codes, Level
from vqkit.priors import AutoregressivePrior, PriorConfig
from vqkit.priors.trie import Trie

IN_ORDER = {
    name: config
    for name, config in PRIORS.items()
    if not {*name.split()} & {"diffusion", "hierarchical"}
}
DRAWS = 8000
Pair = tuple[PriorConfig, tuple]


def some_valid(specs: tuple) -> Codes:
    """A third of all codes."""
    return every_code(specs).map(lambda tensor: tensor[::3])


def probabilities(prior: AutoregressivePrior, valid: Codes) -> dict[tuple, float]:
    """By hand: the prior's own of each next integer, over what some valid code goes on with."""
    everything = every_code(prior.specs)
    joint = prior.log_prob(everything).exp()
    order = prior.order.tolist()
    rows = everything.flat()[:, order].tolist()
    allowed = [tuple(row) for row in valid.flat()[:, order].tolist()]

    def mass(prefix: tuple) -> float:
        return float(sum(p for p, row in zip(joint, rows, strict=True)
                         if tuple(row[: len(prefix)]) == prefix))  # fmt: skip

    found = {}
    for row in allowed:
        p = 1.0
        for depth in range(len(row)):
            nexts = {other[depth] for other in allowed if other[:depth] == row[:depth]}
            p *= mass(row[: depth + 1]) / sum(mass((*row[:depth], k)) for k in nexts)
        found[row] = p
    return found


@pytest.mark.parametrize("pair", pairs(IN_ORDER, SPACES))
@torch.no_grad()
def test_samples_are_valid_and_as_likely_as_the_prior_says_of_what_may_follow(pair: Pair):
    prior = make(*pair)
    assert isinstance(prior, AutoregressivePrior)
    valid = some_valid(prior.specs)
    expected = probabilities(prior, valid)
    assert sum(expected.values()) == pytest.approx(1)
    drawn = prior.sample(DRAWS, seed=0, valid=valid).flat()[:, prior.order]
    counts = Counter(map(tuple, drawn.tolist()))
    assert counts.keys() <= expected.keys()
    for row, p in expected.items():
        assert counts[row] / DRAWS == pytest.approx(p, abs=5 * (p * (1 - p) / DRAWS) ** 0.5 + 1e-3)


@pytest.mark.parametrize("pair", pairs(IN_ORDER, {"two": SPACES["two codebooks"]}))
def test_where_all_codes_are_valid_samples_are_as_without(pair: Pair):
    prior = make(*pair)
    plain = prior.sample(50, seed=1).flat()
    assert torch.equal(prior.sample(50, seed=1, valid=every_code(prior.specs)).flat(), plain)


def test_one_valid_code_is_the_only_sample():
    prior = make(PRIORS["transformer"], SPACES["two levels"])
    one = every_code(prior.specs)[7:8]
    found = prior.sample(9, seed=0, valid=one).flat()
    assert torch.equal(found, one.flat().expand(9, -1))


def test_greedy_choice_and_cuts_are_among_the_valid_ones():
    prior = make(PRIORS["n-gram"], SPACES["two codebooks"])
    valid = some_valid(prior.specs)
    allowed = set(map(tuple, valid.flat().tolist()))
    for options in ({"top_p": 0}, {"top_k": 1}, {"temperature": 5.0}):
        found = prior.sample(40, seed=0, valid=valid, **options).flat().tolist()
        assert set(map(tuple, found)) <= allowed


def test_guidance_and_labels_go_with_valid_codes():
    from vqkit.priors import Conditioning

    config = PRIORS["transformer"].__class__(layers=1, width=16, heads=2, drop_conditioning=0.1)
    prior = make(config, SPACES["two codebooks"], num_classes=3)
    valid = some_valid(prior.specs)
    given = Conditioning(torch.arange(30) % 3)
    found = prior.sample(30, given, seed=0, valid=valid, guidance=3.0).flat().tolist()
    assert set(map(tuple, found)) <= set(map(tuple, valid.flat().tolist()))


def test_known_codes_are_completed_to_valid_ones_or_refused():
    prior = make(PRIORS["transformer"], SPACES["two codebooks"])
    valid = some_valid(prior.specs)
    first = valid[0:1].map(lambda tensor: tensor.expand(20, *tensor.shape[1:]).clone())
    level = first.levels[0]
    mask = torch.tensor([[True, False]]).expand(20, 2)
    known = Codes((Level(level.indices, level.codebook_sizes, level.structure, mask),))
    found = prior.sample(20, seed=0, known=known, valid=valid)
    assert torch.equal(found.levels[0].indices[:, 0], level.indices[:, 0])
    assert set(map(tuple, found.flat().tolist())) <= set(map(tuple, valid.flat().tolist()))
    only = valid[-1:]
    assert not torch.equal(only.levels[0].indices[0, 0], level.indices[0, 0])
    with pytest.raises(ValueError, match="known codes of item 0 begin none of the valid ones"):
        prior.sample(20, seed=0, known=known, valid=only)


@pytest.mark.parametrize("name", ["absorbing diffusion", "uniform diffusion", "hierarchical"])
def test_priors_that_draw_otherwise_refuse_valid_codes(name: str):
    prior = make(PRIORS[name], SPACES["two levels"])
    with pytest.raises(ValueError, match="valid is for priors that draw one integer after another"):
        prior.sample(2, seed=0, valid=every_code(prior.specs))


def test_codes_that_are_none_masked_or_of_others_are_refused():
    prior = make(PRIORS["transformer"], SPACES["one level"])
    valid = every_code(prior.specs)
    with pytest.raises(ValueError, match="valid holds no codes"):
        prior.sample(2, seed=0, valid=valid[:0])
    level = valid.levels[0]
    masked = Level(level.indices, level.codebook_sizes, mask=torch.ones(len(valid), 2, 2).bool())
    with pytest.raises(ValueError, match="valid codes have masks"):
        prior.sample(2, seed=0, valid=Codes((masked,)))
    with pytest.raises(ValueError, match="use those of the same tokenizer"):
        prior.sample(2, seed=0, valid=every_code(SPACES["no grid"]))


def test_a_tree_knows_what_may_follow_what():
    rows = torch.tensor([[0, 1, 0], [0, 1, 1], [0, 3, 0], [2, 0, 1]])
    walk = Trie(rows, torch.arange(3), 4).walk(2)
    assert walk.allowed(4).tolist() == [[True, False, True, False]] * 2
    walk.step(torch.tensor([0, 2]))
    assert walk.allowed(4).tolist() == [[False, True, False, True], [True, False, False, False]]
    walk.step(torch.tensor([1, 0]))
    assert walk.allowed(2).tolist() == [[True, True], [False, True]]
    with pytest.raises(ValueError, match="item 1 begin none"):
        walk.step(torch.tensor([1, 0]))
