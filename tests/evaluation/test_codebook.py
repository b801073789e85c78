"""What must hold for the count of codes over a split."""

import math
from collections import Counter

import pytest
import torch

from vqkit.codes import Codes, Level
from vqkit.evaluation.codebook import CodebookStats, CodeCounter, histogram


def level(*shape: int, sizes: tuple[int, ...] = (7,), masked: bool = False) -> Level:
    indices = torch.stack([torch.randint(size, shape) for size in sizes], dim=-1)
    mask = torch.rand(shape) > 0.4 if masked else None
    return Level(indices, sizes, mask=mask)


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@pytest.mark.parametrize("masked", [False, True])
def test_counts_are_those_of_a_plain_loop_whatever_the_batches(masked: bool):
    batch = Codes((level(9, 4, 5, sizes=(7, 3), masked=masked), level(9, 2, sizes=(11,))))
    counter = CodeCounter([(7, 3), (11,)])
    for part in (batch[:4], batch[4:8], batch[8:]):
        counter.add(part)
    for found, expected in zip(counter.stats(), batch.levels, strict=True):
        for q, stats in enumerate(found):
            real = expected.indices[..., q]
            real = real.flatten() if expected.mask is None else real[expected.mask]
            loop = Counter(real.tolist())
            assert stats.counts.tolist() == [loop[k] for k in range(stats.size)]
            assert stats.num_vectors == real.numel()


def test_statistics_equal_their_definitions():
    counts = [5, 0, 3, 12, 0, 1]
    stats = CodebookStats(6, torch.tensor(counts))
    shares = [count / 21 for count in counts if count]
    entropy = -sum(p * math.log(p) for p in shares)
    assert stats.usage == 4 / 6
    assert stats.dead == 2
    assert stats.entropy_bits == pytest.approx(-sum(p * math.log2(p) for p in shares))
    assert stats.perplexity == pytest.approx(math.exp(entropy))
    assert stats.kl_to_uniform_nats == pytest.approx(sum(p * math.log(p * 6) for p in shares))


def test_uniform_use_has_perplexity_k_and_no_divergence():
    stats = CodebookStats(512, torch.full((512,), 3))
    assert stats.perplexity == pytest.approx(512)
    assert stats.kl_to_uniform_nats == pytest.approx(0, abs=1e-12)
    assert stats.usage == 1


def test_one_entry_for_everything_has_perplexity_one():
    stats = CodebookStats(512, torch.zeros(512).long().index_fill(0, torch.tensor([3]), 1000))
    assert stats.perplexity == 1
    assert stats.kl_to_uniform_nats == pytest.approx(math.log(512))
    assert stats.dead == 511


def test_usage_counts_every_vector_of_the_split_however_many_and_however_large_k():
    """An entry used once, early, among more vectors than float32 can count, is not forgotten."""
    size, many = 200_000, 2**25
    counter = CodeCounter([(size,)])
    counter.add(Codes((Level(torch.arange(size).view(-1, 1), (size,)),)))
    counter.counts[0][0][7] += many  # as many further batches of entry 7 would
    counter.add(Codes((Level(torch.full((9, 1), 7), (size,)),)))
    stats = counter.stats()[0][0]
    assert stats.usage == 1
    assert stats.counts[7] == many + 10
    assert stats.num_vectors == size + many + 9


def test_perplexity_is_that_of_the_split_and_not_a_mean_over_batches():
    batches = [torch.full((100, 1), k) for k in range(8)]  # each batch alone has perplexity 1
    counter = CodeCounter([(8,)])
    for indices in batches:
        counter.add(Codes((Level(indices, (8,)),)))
    summary = counter.stats()[0][0].summary()
    assert summary["perplexity"] == pytest.approx(8)
    assert summary["num_vectors"] == 800


def test_a_split_without_vectors_has_no_numbers_that_are_not_numbers():
    summary = CodeCounter([(4,)]).stats()[0][0].summary()
    assert all(math.isfinite(value) for value in summary.values())
    assert summary["usage"] == 0


def test_an_index_without_entry_is_refused():
    with pytest.raises(ValueError, match="an index is 9, the codebook has 4 entries"):
        histogram(torch.tensor([1, 9]), 4)


def test_counts_of_another_size_are_refused():
    with pytest.raises(ValueError, match="one count for each of 4"):
        CodebookStats(4, torch.zeros(5).long())


def test_codes_of_another_model_are_refused():
    with pytest.raises(ValueError, match="are counted"):
        CodeCounter([(4,)]).add(Codes((level(2, 3, sizes=(7,)),)))
