"""What must hold for the prior of counted frequencies in particular."""

import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from tests.priors.spaces import random_codes
from torch import distributed as dist
from torch import multiprocessing
from torch.testing import assert_close

from vqkit.codes import Codes, LevelSpec
from vqkit.priors import HistogramPrior, UniformPrior

SPECS = (LevelSpec((2,), (3,)), LevelSpec((2,), (4, 5), "residual"))


def test_the_probability_of_an_integer_is_its_smoothed_frequency_at_its_slot():
    prior = HistogramPrior(SPECS)
    torch.manual_seed(0)
    counted, asked = random_codes(SPECS, 30, masked=True), random_codes(SPECS, 5)
    prior.count(counted[:11])
    prior.count(counted[11:])
    expected = []
    for item in asked.flat().tolist():
        total = 0.0
        for slot, entry in enumerate(item):
            real = counted.flat_mask()[:, slot]
            seen = Counter(counted.flat()[real, slot].tolist())
            size = int(prior.slot_sizes[slot])
            total += math.log((seen[entry] + 1) / (seen.total() + size))
        expected.append(total)
    assert_close(prior.log_prob(asked), torch.tensor(expected, dtype=torch.float64))


def test_before_anything_is_counted_it_is_uniform():
    codes = random_codes(SPECS, 5)
    assert_close(HistogramPrior(SPECS).log_prob(codes), UniformPrior(SPECS).log_prob(codes))


def test_counts_stay_exact_beyond_the_integers_of_float32():
    prior = HistogramPrior((LevelSpec((1,), (2,)),))
    prior.occurrences += 2**24
    prior.count(Codes.from_flat(torch.zeros(1, 1, dtype=torch.int64), prior.specs))
    assert prior.occurrences.tolist() == [2**24 + 1, 2**24]


def test_an_empty_batch_counts_nothing():
    prior = HistogramPrior(SPECS)
    prior.count(random_codes(SPECS, 0))
    assert (prior.occurrences == 0).all()
    assert (prior.num_counted == 0).all()


def test_slots_of_one_codebook_are_counted_apart():
    specs = (LevelSpec((2,), (2,)),)
    prior = HistogramPrior(specs)
    prior.count(Codes.from_flat(torch.tensor([[0, 1]] * 98), specs))
    assert_close(
        prior.log_prob(Codes.from_flat(torch.tensor([[0, 1]]), specs)).exp().item(), 0.9801
    )


def count_share(rank: int, folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    codes, prior = random_codes(SPECS, 9, masked=True), HistogramPrior(SPECS)
    prior.count(codes[:6] if rank == 0 else codes[6:])
    prior.count(codes[:0] if rank == 0 else codes[:2])  # one rank has no more
    torch.save(prior.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_what_one_counts(tmp_path: Path):
    multiprocessing.spawn(count_share, (tmp_path,), nprocs=2)
    torch.manual_seed(0)
    codes, prior = random_codes(SPECS, 9, masked=True), HistogramPrior(SPECS)
    prior.count(Codes.cat([codes, codes[:2]]))
    for rank in range(2):
        counted = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close(counted, dict(prior.state_dict()), rtol=0, atol=0)
