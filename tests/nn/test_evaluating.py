"""What must hold for evaluation behaviour for a while."""

import pytest
from torch import nn

from vqkit.nn.evaluating import evaluating


def test_each_part_is_afterwards_in_the_mode_it_was_in():
    module = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()))
    module[1].eval()
    with evaluating(module):
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == [True, True, False, False]


def test_an_error_inside_restores_the_modes():
    module = nn.Dropout()
    with pytest.raises(RuntimeError), evaluating(module):
        raise RuntimeError
    assert module.training
