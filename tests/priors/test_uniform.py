"""What must hold for the uniform prior in particular."""

import math

import torch
from tests.priors.spaces import random_codes
from torch.testing import assert_close

from vqkit.codes import LevelSpec
from vqkit.priors import UniformPrior

SPECS = (LevelSpec((3,), (512,)), LevelSpec((2, 2), (8, 5), "residual"))


def test_the_log_probability_is_minus_the_bits_of_the_levels():
    bits = sum(spec.bits for spec in SPECS)
    log_prob = UniformPrior(SPECS).log_prob(random_codes(SPECS, 4))
    assert_close(log_prob, torch.full((4,), -bits * math.log(2), dtype=torch.float64))


def test_masked_integers_cost_nothing():
    codes = random_codes(SPECS, 6, masked=True)
    sizes = torch.tensor([512] * 3 + [8, 5] * 4).double()
    expected = -(sizes.log() * codes.flat_mask()).sum(1)
    assert_close(UniformPrior(SPECS).log_prob(codes), expected)


def test_every_entry_is_drawn_as_often():
    specs = (LevelSpec((50,), (4,)),)
    found = UniformPrior(specs).sample(200, seed=0).flat().flatten().bincount(minlength=4)
    assert ((found / 10_000 - 0.25).abs() < 5 * math.sqrt(0.25 * 0.75 / 10_000)).all()
