"""What must hold for integers made of digits."""

import itertools

import pytest
import torch

from vqkit.quantizers.mixed_radix import LARGEST, check_levels, join, join_columns, split


@pytest.mark.parametrize("levels", [(2,), (3, 2), (2, 5, 3), (4, 4, 4)])
def test_every_integer_is_one_combination_of_digits(levels: tuple[int, ...]):
    digits = torch.tensor(list(itertools.product(*(range(size) for size in levels))))
    joined = join(digits, levels)
    assert torch.equal(joined.sort().values, torch.arange(len(digits)))
    assert torch.equal(split(joined, levels), digits)


def test_the_first_digit_counts_least():
    levels = (3, 4, 5)
    for index, (high, middle, low) in enumerate(itertools.product(range(5), range(4), range(3))):
        assert join(torch.tensor([low, middle, high]), levels) == index


@pytest.mark.parametrize("levels", [(10,) * 18, (2,) * 62, (LARGEST,), (3,) * 39, (7, 2**60)])
def test_large_integers_lose_nothing(levels: tuple[int, ...]):
    """Against Python's integers, which do not overflow."""
    assert check_levels(list(levels)) == levels
    digits = torch.stack([torch.randint(size, (50,)) for size in levels], -1)
    digits[0] = torch.tensor(levels) - 1
    joined = join(digits, levels)
    for row, found in zip(digits.tolist(), joined.tolist(), strict=True):
        expected = 0
        for digit, size in zip(reversed(row), reversed(levels), strict=True):
            expected = expected * size + digit
        assert found == expected
    assert torch.equal(split(joined, levels), digits)


@pytest.mark.parametrize("shape", [(), (0,), (4, 0, 2), (2, 3)])
def test_any_shape_of_integers_is_split(shape: tuple[int, ...]):
    indices = torch.randint(30, shape)
    digits = split(indices, (2, 5, 3))
    assert digits.shape == (*shape, 3)
    assert torch.equal(join(digits, (2, 5, 3)), indices)


@pytest.mark.parametrize("levels", [(2,) * 63, (LARGEST + 1,), (10,) * 19, (10,) * 400])
def test_more_than_an_int64_holds_is_refused(levels: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"10\^.* codes, and an index has 63 bits"):
        check_levels(levels)


@pytest.mark.parametrize("levels", [(), (1,), (4, 1), (4, 0), (-2, -2)])
def test_digits_without_a_choice_are_refused(levels: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"give at least 2|levels are empty"):
        check_levels(levels)


def test_levels_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match=r"a level is 3\.5; give an integer"):
        check_levels((8, 3.5))  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("levels", [(7,), (8, 5, 5, 5), (2,) * 62])
def test_digits_that_lie_apart_are_joined_alike(levels: tuple[int, ...]):
    digits = torch.stack([torch.randint(level, (3, 50)) for level in levels], -1)
    apart = join_columns(digits.unbind(-1), levels)
    assert torch.equal(apart, join(digits, levels))
