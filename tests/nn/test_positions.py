"""What must hold for positions on a grid."""

import math

import pytest
import torch
from torch.testing import assert_close

from vqkit.nn.positions import grid_positions

LIKE = torch.zeros((), dtype=torch.float64)


@pytest.mark.parametrize("dim", [1, 4, 6, 16])
def test_the_vectors_are_the_formula_written_out(dim: int):
    found = grid_positions(3, 5, dim, LIKE).view(3, 5, dim)
    num_waves = dim // 4
    for row in range(3):
        for column in range(5):
            expected = []
            for place in (row, column):
                angles = [place / 10_000 ** (n / num_waves) for n in range(num_waves)]
                expected += [*map(math.cos, angles), *map(math.sin, angles)]
            expected += [0.0] * (dim - len(expected))
            assert_close(found[row, column], torch.tensor(expected, dtype=torch.float64))


def test_no_two_positions_have_the_same_vector():
    found = grid_positions(40, 50, 16, LIKE)
    assert torch.cdist(found, found).fill_diagonal_(1).min() > 1e-3


def test_a_position_has_the_same_vector_on_every_grid():
    small, large = (grid_positions(n, n, 8, LIKE).view(n, n, 8) for n in (4, 9))
    assert torch.equal(small, large[:4, :4])


def test_type_and_device_are_those_asked_for():
    assert grid_positions(2, 2, 8, torch.zeros(1)).dtype == torch.float32
