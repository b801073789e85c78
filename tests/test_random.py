"""What must hold for random numbers that are a function of integers."""

import pytest
import torch
from torch.testing import assert_close

from vqkit import random

MASK = 2**64 - 1


def splitmix64(state: int) -> int:
    """The next output of the generator, as its authors define it, on unsigned integers."""
    state = (state + 0x9E3779B97F4A7C15) & MASK
    state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & MASK
    return state ^ (state >> 31)


def by_hand(*words: int) -> int:
    state = 0
    for word in words:
        state = splitmix64(state ^ (word & MASK))
    return state


def test_the_generator_is_splitmix64():
    """The first outputs for seed 1234567, https://rosettacode.org/wiki/Pseudo-random_numbers."""
    state, outputs = 1234567, []
    for _ in range(3):
        outputs.append(splitmix64(state))
        state = (state + 0x9E3779B97F4A7C15) & MASK
    assert outputs == [6457827717110365317, 3203168211198807973, 9817491932198370423]
    assert random.hash_int(1234567) & MASK == outputs[0]


@pytest.mark.parametrize("words", [(0,), (1, 2, 3), (-1, 2**62), (2**63, -(2**63)), (2**70, 5)])
def test_integers_and_tensors_are_hashed_alike(words: tuple[int, ...]):
    expected = by_hand(*words)
    assert random.hash_int(*words) & MASK == expected
    last = torch.tensor([(words[-1] + 2**63) % 2**64 - 2**63])
    assert random.hash_tensor(*words[:-1], last).item() & MASK == expected


def test_every_element_depends_on_its_own_words_alone():
    numbers = torch.arange(1000)
    whole = random.uniform(3, 4, numbers)
    assert torch.equal(random.uniform(3, 4, numbers[500:]), whole[500:])
    assert torch.equal(random.uniform(torch.tensor(3), torch.tensor(4), numbers), whole)
    column = random.uniform(torch.arange(3).unsqueeze(1), numbers)
    assert torch.equal(column[2], random.uniform(2, numbers))


def test_the_order_of_words_matters_and_each_counts():
    hashes = [random.hash_int(*words) for words in [(1, 2), (2, 1), (1, 2, 0), (0, 1, 2), (1,)]]
    assert len(set(hashes)) == 5


def test_numbers_are_uniform_strictly_inside_0_and_1():
    """Mean, variance and 16 equal bins within 5 standard errors, for consecutive integers."""
    num = 100_000
    for words in [(0, torch.arange(num)), (7, torch.arange(num), 3), (torch.arange(num) << 40,)]:
        u = random.uniform(*words)
        assert u.dtype == torch.float64
        assert u.amin() > 0
        assert u.amax() < 1
        assert_close(u.mean().item(), 1 / 2, rtol=0, atol=5 * (1 / 12 / num) ** 0.5)
        assert_close(u.var().item(), 1 / 12, rtol=0, atol=5 * (1 / 180 / num) ** 0.5)
        bins = (u * 16).long().bincount(minlength=16).double()
        assert ((bins - num / 16).abs() < 5 * (num / 16) ** 0.5).all()


def test_streams_of_neighbouring_seeds_are_not_correlated():
    u = torch.stack([random.uniform(seed, torch.arange(20_000)) for seed in range(5)])
    correlations = torch.corrcoef(u) - torch.eye(5)
    assert correlations.abs().amax() < 5 / 20_000**0.5


def test_extreme_bits_still_give_a_finite_logarithm(monkeypatch: pytest.MonkeyPatch):
    for bits in (0, -1):
        monkeypatch.setattr(random, "hash_tensor", lambda *_, bits=bits: torch.tensor([bits]))
        u = random.uniform(torch.tensor([0]))
        assert u.log().isfinite().all()
        assert (1 - u).log().isfinite().all()


def test_a_generator_is_a_function_of_its_words():
    draws = [
        torch.rand(5, generator=random.generator(*words)) for words in [(1, 2), (1, 2), (2, 1)]
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_the_global_state_of_torch_is_left_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    random.generator(5)
    random.uniform(torch.arange(3))
    assert torch.equal(torch.rand(3), expected)


def test_words_that_are_no_integers_are_refused():
    with pytest.raises(TypeError, match="no word is a tensor"):
        random.hash_tensor(1, 2)
    for bad in (torch.ones(3), torch.ones(3, dtype=torch.bool)):
        with pytest.raises(TypeError, match="give integers"):
            random.hash_tensor(1, bad)
