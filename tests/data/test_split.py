"""Seeded splits and chosen items."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.files import write_folder

from vqkit.data import Subset, open_source, split

FRACTIONS = st.floats(0, 1, exclude_min=True, exclude_max=True)


@settings(deadline=None, max_examples=50)
@given(n=st.integers(2, 200), fraction=FRACTIONS, seed=st.integers(0, 2**63 - 1))
def test_a_split_has_every_item_once_and_something_on_both_sides(
    n: int, fraction: float, seed: int
):
    train, evaluation = split(n, fraction, seed)
    assert sorted([*train, *evaluation]) == list(range(n))
    assert len(evaluation) == min(max(1, round(fraction * n)), n - 1)
    assert train == sorted(train)
    assert evaluation == sorted(evaluation)
    assert split(n, fraction, seed) == (train, evaluation)


def test_another_seed_chooses_other_items():
    chosen = {tuple(split(100, 0.1, seed)[1]) for seed in range(5)}
    assert len(chosen) == 5


def test_every_item_is_held_out_by_some_seeds():
    held_out = [index for seed in range(200) for index in split(10, 0.2, seed)[1]]
    counts = [held_out.count(index) for index in range(10)]
    assert all(15 < count < 70 for count in counts)  # 40 on average, standard deviation 5.7


def test_what_cannot_be_split_is_refused():
    with pytest.raises(ValueError, match="at least 2 items, here are 1"):
        split(1, 0.1, 0)
    for fraction in (0.0, 1.0):
        with pytest.raises(ValueError, match="give more than 0 and less than 1"):
            split(10, fraction, 0)


def test_a_subset_is_the_chosen_items_in_the_chosen_order(tmp_path: Path):
    source = open_source(str(write_folder(tmp_path, ["a/0.png", "b/1.png", "b/2.png"])))
    part = Subset(source, [2, 0])
    assert [part[index] for index in range(len(part))] == [source[2], source[0]]
    assert [part.id(i) for i in range(2)] == ["b/2.png", "a/0.png"]
    assert [part.label(i) for i in range(2)] == [1, 0]
    assert part.describe(0) == source.describe(2)
    assert part.labels == source.labels
