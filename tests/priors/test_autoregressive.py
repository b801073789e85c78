"""What must hold for every prior that draws one integer after another."""

import pytest
import torch
from tests.priors.spaces import CLASSES, PRIORS, SPACES, fits, labels_of, make, pairs, random_codes
from torch.testing import assert_close

from vqkit.codes import Codes, Level, LevelSpec
from vqkit.priors import AutoregressivePrior, Conditioning, Prior

WIDE = (LevelSpec((3, 4), (5,)),)
SEVERAL = {**SPACES, "wide": WIDE}
CUT = {name: SEVERAL[name] for name in ("one level", "wide")}
"""Spaces that a mask of positions cuts in two anywhere in any order."""
LONG = {name: space for name, space in SEVERAL.items() if name != "no grid"}
"""Spaces of more than one position."""
DRAWS_IN_ORDER = {
    name: config
    for name, config in PRIORS.items()
    if fits(config, SPACES["one level"])
    and isinstance(config.build(SPACES["one level"]), AutoregressivePrior)
}


@pytest.fixture(params=pairs(DRAWS_IN_ORDER, SEVERAL))
def prior(request: pytest.FixtureRequest) -> AutoregressivePrior:
    made = make(*request.param, CLASSES)
    assert isinstance(made, AutoregressivePrior)
    return made


def test_the_order_holds_every_slot_once(prior: AutoregressivePrior):
    assert prior.order.sort().values.tolist() == list(range(len(prior.slot_sizes)))


@torch.no_grad()
def test_what_an_integer_costs_does_not_change_in_one_bit_when_later_ones_do(
    prior: AutoregressivePrior,
):
    codes, other = random_codes(prior.specs, 4), random_codes(prior.specs, 4).flat()
    before, order = prior.nats(codes, labels_of(4)), prior.order
    for t in range(len(order)):
        flat = codes.flat().clone()
        flat[:, order[t + 1 :]] = other[:, order[t + 1 :]]
        after = prior.nats(Codes.from_flat(flat, prior.specs), labels_of(4))
        assert torch.equal(after[:, order[: t + 1]], before[:, order[: t + 1]])


@pytest.mark.parametrize("num", [1, 5])
@pytest.mark.parametrize(("dtype", "scale"), [(torch.float32, 1e-5), (torch.float64, 1e-9)])
@torch.no_grad()
def test_integers_are_drawn_with_the_probabilities_that_they_are_judged_by(
    prior: AutoregressivePrior, dtype: torch.dtype, scale: float, num: int
):
    prior = prior.to(dtype)
    codes = random_codes(prior.specs, num)
    nats, flat = prior.nats(codes, labels_of(num)), codes.flat()
    next_logits = prior.next_logits(num, labels_of(num), None)
    previous, atol = torch.zeros_like(flat[:, 0]), scale * float(nats.abs().max().clamp(min=1))
    for slot in prior.order.tolist():
        logits = next_logits(slot, previous)
        assert logits.shape == (num, prior.slot_sizes[slot])
        previous = flat[:, slot]
        drawn = -logits.log_softmax(-1).gather(1, previous.unsqueeze(1)).squeeze(1)
        assert_close(drawn.double(), nats[:, slot].double(), rtol=0, atol=atol)


def keep(codes: Codes, prior: Prior, known: torch.Tensor) -> Codes:
    """The codes with a mask of what is known. known: (L,) bool by slot"""
    levels, start = [], 0
    for level, spec in zip(codes.levels, prior.specs, strict=True):
        part = known[start : start + spec.num_tokens].reshape(*spec.grid, -1)[..., 0]
        mask = part.expand(level.indices.shape[:-1])
        levels.append(Level(level.indices, level.codebook_sizes, level.structure, mask))
        start += spec.num_tokens
    return Codes(tuple(levels))


@pytest.mark.parametrize("prior", pairs(DRAWS_IN_ORDER, CUT), indirect=True)
def test_known_codes_that_come_first_are_kept_and_the_others_drawn_from_them(
    prior: AutoregressivePrior,
):
    """As if the numbers that were drawn by had led to them."""
    prior = prior.double()
    drawn = prior.sample(6, labels_of(6), seed=4)
    known = torch.zeros(len(prior.slot_sizes), dtype=torch.bool)
    known[prior.order[: len(known) // 2]] = True
    again = prior.sample(6, labels_of(6), seed=4, known=keep(drawn, prior, known))
    assert torch.equal(again.flat(), drawn.flat())
    other = prior.sample(6, labels_of(6), seed=5, known=keep(drawn, prior, known))
    assert torch.equal(other.flat()[:, known], drawn.flat()[:, known])


@pytest.mark.parametrize("prior", pairs(DRAWS_IN_ORDER, LONG), indirect=True)
def test_known_codes_behind_unknown_ones_are_completed_exactly_or_refused(
    prior: AutoregressivePrior,
):
    codes = random_codes(prior.specs, 2)
    known = torch.ones(len(prior.slot_sizes), dtype=torch.bool)
    first = prior.order[0]
    num_books = len(prior.specs[0].codebook_sizes)
    known[first - first % num_books : first - first % num_books + num_books] = False
    if prior.completes_any:
        drawn = prior.sample(2, labels_of(2), seed=0, known=keep(codes, prior, known))
        assert torch.equal(drawn.flat()[:, known], codes.flat()[:, known])
    else:
        with pytest.raises(ValueError, match="known codes come after unknown ones"):
            prior.sample(2, labels_of(2), seed=0, known=keep(codes, prior, known))


def test_steps_are_refused(prior: AutoregressivePrior):
    with pytest.raises(ValueError, match="steps is 8, but this prior draws one integer after"):
        prior.sample(1, Conditioning(torch.tensor([0])), seed=0, steps=8)
