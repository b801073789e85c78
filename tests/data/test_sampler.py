"""What stands where in which step."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqkit.data import Draw, StatelessSampler
from vqkit.random import hash_int

hurried = settings(deadline=None, max_examples=50)
SEEDS = st.integers(-(2**63), 2**63 - 1)


def whole(sampler: StatelessSampler, steps: range) -> list[Draw]:
    """All draws of a sampler of one process without micro-batches."""
    return [draw for step in steps for draw in sampler.micro_batch(step)]


@hurried
@given(n=st.integers(1, 40), size=st.integers(1, 50), epochs=st.integers(1, 4), seed=SEEDS)
def test_every_epoch_is_a_permutation_even_when_batches_reach_over_its_end(
    n: int, size: int, epochs: int, seed: int
):
    steps = range(-(-n * epochs // size))
    draws = [draw.index for draw in whole(StatelessSampler(n, size, seed=seed), steps)]
    for epoch in range(epochs):
        assert sorted(draws[epoch * n : (epoch + 1) * n]) == list(range(n))


@hurried
@given(
    n=st.integers(1, 40),
    share=st.integers(1, 4),
    parts=st.integers(1, 3),
    ranks=st.integers(1, 3),
    step=st.integers(0, 10**12),
    seed=SEEDS,
)
def test_ranks_and_micro_batches_join_to_the_global_batch_of_one_process(
    n: int, share: int, parts: int, ranks: int, step: int, seed: int
):
    size = share * parts * ranks
    joined = []
    for k in range(parts):
        for rank in range(ranks):
            sampler = StatelessSampler(
                n, size, seed=seed, num_micro_batches=parts, rank=rank, world_size=ranks
            )
            joined += sampler.micro_batch(step, k)
    assert joined == StatelessSampler(n, size, seed=seed).micro_batch(step)
    assert [draw.position for draw in joined] == list(range(size))


@hurried
@given(n=st.integers(1, 40), size=st.integers(1, 50), step=st.integers(0, 10**9), seed=SEEDS)
def test_the_seed_of_a_draw_depends_on_seed_step_and_position_alone(
    n: int, size: int, step: int, seed: int
):
    for draw in StatelessSampler(n, size, seed=seed).micro_batch(step):
        assert draw.seed == hash_int(seed, step, draw.position)


def test_a_step_can_be_asked_for_without_those_before_it():
    resumed = StatelessSampler(7, 3, seed=1).micro_batch(20)
    assert whole(StatelessSampler(7, 3, seed=1), range(21))[-3:] == resumed


def test_another_seed_gives_another_order_in_every_epoch():
    first, second = (whole(StatelessSampler(50, 50, seed=seed), range(2)) for seed in (0, 1))
    orders = [[draw.index for draw in part] for part in (*halves(first), *halves(second))]
    assert len({tuple(order) for order in orders}) == 4


def halves(draws: list[Draw]) -> tuple[list[Draw], list[Draw]]:
    return draws[: len(draws) // 2], draws[len(draws) // 2 :]


def test_a_batch_may_be_larger_than_the_data():
    draws = StatelessSampler(3, 10, seed=0).micro_batch(0)
    assert len(draws) == 10
    assert sorted(draw.index for draw in draws[:3]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_examples": 0}, "num_examples is 0; give at least 1"),
        ({"batch_size": 0}, "batch_size is 0"),
        ({"rank": 2, "world_size": 2}, "rank is 2; give at least 0 and less than 2"),
        ({"num_micro_batches": 2, "world_size": 3}, "give a multiple of 6"),
    ],
)
def test_impossible_numbers_are_refused(options: dict, message: str):
    with pytest.raises(ValueError, match=message):
        StatelessSampler(**{"num_examples": 10, "batch_size": 8, "seed": 0} | options)


@pytest.mark.parametrize(("step", "k"), [(-1, 0), (0, -1), (0, 2)])
def test_a_part_that_no_step_has_is_refused(step: int, k: int):
    with pytest.raises(ValueError, match="0 <= k <= 1"):
        StatelessSampler(10, 4, seed=0, num_micro_batches=2).micro_batch(step, k)


def batches(
    n: int, size: int, lengths: list[int] | None, steps: range, **options
) -> list[list[int]]:
    """The items of some steps."""
    sampler = StatelessSampler(n, size, seed=0, lengths=lengths, **options)
    return [[draw.index for draw in sampler.micro_batch(step)] for step in steps]


@hurried
@given(
    lengths=st.lists(st.integers(1, 100), min_size=1, max_size=60),
    share=st.integers(1, 3),
    parts=st.integers(1, 2),
    ranks=st.integers(1, 3),
    step=st.integers(0, 10**6),
    seed=SEEDS,
)
def test_with_lengths_too_ranks_and_micro_batches_join_to_the_batch_of_one_process(
    lengths: list[int], share: int, parts: int, ranks: int, step: int, seed: int
):
    n, size = len(lengths), share * parts * ranks
    joined = []
    for k in range(parts):
        for rank in range(ranks):
            sampler = StatelessSampler(
                n,
                size,
                seed=seed,
                num_micro_batches=parts,
                rank=rank,
                world_size=ranks,
                lengths=lengths,
            )
            sampler.micro_batch(0)  # what was asked for before has no effect
            joined += sampler.micro_batch(step, k)
    assert joined == StatelessSampler(n, size, seed=seed, lengths=lengths).micro_batch(step)


def test_items_of_like_length_come_together_and_each_once_in_a_window():
    n, size = 640, 10
    lengths = [1 + (i * 37) % 101 for i in range(n)]
    found = batches(n, size, lengths, range(64))
    assert sorted(i for batch in found for i in batch) == list(range(n))
    for batch in found:
        assert max(lengths[i] for i in batch) - min(lengths[i] for i in batch) <= 3
    means = [sum(lengths[i] for i in batch) for batch in found]
    assert means not in (sorted(means), sorted(means, reverse=True))  # steps are not in that order
    assert batches(n, size, lengths, range(64, 128)) != found


def test_less_than_a_tenth_of_the_batches_is_padding():
    """Lengths as those of sentences: most of them middling, some very long."""
    import torch

    from vqkit.random import generator

    noise = torch.randn(5_000, generator=generator(0), dtype=torch.float64)
    lengths = (40 * (0.6 * noise).exp()).long().clamp(2, 400).tolist()

    def waste(found: list[list[int]]) -> float:
        frames = sum(len(batch) * max(lengths[i] for i in batch) for batch in found)
        return 1 - sum(lengths[i] for batch in found for i in batch) / frames

    steps = range(3 * len(lengths) // 32)
    assert waste(batches(len(lengths), 32, None, steps)) > 0.4
    assert waste(batches(len(lengths), 32, lengths, steps)) < 0.1


def test_few_items_do_not_meet_themselves_in_a_batch():
    found = batches(50, 16, [i % 5 for i in range(50)], range(60))
    repeated = sum(len(batch) > len(set(batch)) for batch in found)
    assert repeated <= 60 * 16 / 50  # one batch where an epoch ends
    assert max(max(batch.count(i) for i in batch) for batch in found) <= 2


def test_there_is_a_length_for_each_item():
    with pytest.raises(ValueError, match="there are 3 lengths; give one for each example"):
        StatelessSampler(4, 2, seed=0, lengths=[1, 2, 3])
