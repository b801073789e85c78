"""What must hold for starts in few directions first."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import EMAVectorQuantizer
from vqkit.quantizers.kmeans import kmeans
from vqkit.quantizers.progressive import principal_directions, progressive
from vqkit.quantizers.search import nearest
from vqkit.quantizers.start import started


def vectors(num: int = 2000, dim: int = 32) -> Tensor:
    """Long vectors of falling variance, few for each entry: as stages leave."""
    generator = torch.Generator().manual_seed(0)
    spread = 0.8 ** torch.arange(dim)
    return torch.randn(num, dim, generator=generator) * spread + 5


def error(z: Tensor, entries: Tensor) -> float:
    return float((z - entries[nearest(z, entries)]).square().mean())


def test_of_long_vectors_the_error_is_smaller_than_after_a_start_in_all_directions():
    z = vectors()
    one, other = progressive(z, 64, seed=0), kmeans(z, 64, seed=0)
    assert error(z, one.entries) < error(z, other.entries)


def test_counts_are_those_of_the_nearest_entries():
    z = vectors()
    found = progressive(z, 64, seed=0)
    assert torch.equal(found.counts, nearest(z, found.entries).bincount(minlength=64))
    assert found.counts.sum() == len(z)


def test_the_same_seed_gives_the_same_entries():
    z = vectors()
    assert torch.equal(progressive(z, 16, seed=3).entries, progressive(z, 16, seed=3).entries)
    assert not torch.equal(progressive(z, 16, seed=3).entries, progressive(z, 16, seed=4).entries)


def test_directions_are_those_of_the_covariance_the_largest_first():
    z = vectors().double()
    centred = z - z.mean(0)
    found = principal_directions(centred)
    variances = (centred @ found).var(0)
    assert torch.equal(variances.sort(descending=True).values, variances)
    _, _, rows = torch.linalg.svd(centred, full_matrices=False)
    assert_close((found * rows.T).sum(0).abs(), torch.ones(32).double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("num", [1, 3, 16])
def test_fewer_vectors_than_entries_are_each_an_entry(num: int):
    z = vectors(num)
    found = progressive(z, 16, seed=0).entries
    assert found.isfinite().all()
    assert error(z, found) < 1e-9


@pytest.mark.parametrize("dim", [1, 2, 3, 5])
def test_vectors_of_any_length_and_copies_are_possible(dim: int):
    z = vectors(200, dim)
    assert error(z, progressive(z, 8, seed=0).entries) < float(z.var(0).mean())
    same = torch.ones(50, dim)
    assert progressive(same, 8, seed=0).entries.isfinite().all()


def test_a_quantizer_starts_so_when_told():
    z = vectors()
    layer = EMAVectorQuantizer(32, 64, start="progressive")
    layer.initialize(z, seed=0)
    assert layer.codebook.usage().start == "progressive"
    assert error(z, layer.codebook.entries) < error(z, kmeans(z, 64, seed=0).entries)


@pytest.mark.parametrize("start", ["kmeans", "progressive", "data", "normal"])
def test_more_steps_of_any_start_lower_the_error(start):
    z = vectors()
    errors = [error(z, started(start, z, 32, seed=0, steps=steps).entries) for steps in (1, 5, 40)]
    assert errors == sorted(errors, reverse=True)
    assert start == "progressive" or errors[2] < 0.99 * errors[0]


def test_steps_that_go_further_than_the_means_reach_a_small_error_in_fewer():
    from vqkit.quantizers.kmeans import lloyd_step, lloyd_steps

    z = vectors(3000, 8)
    first = z[:64].clone()
    plain = first
    for number in range(12):
        plain = lloyd_step(z, plain, number)
    assert error(z, lloyd_steps(z, first, 0, 12)) < error(z, plain)


@pytest.mark.parametrize("reach", [0.5, 1.0, 1.5, 1.9])
def test_no_step_of_any_reach_below_2_makes_the_error_grow(reach: float):
    from vqkit.quantizers.kmeans import lloyd_step

    z = vectors(1000, 8).double()
    entries = z[:32].clone()
    errors = [error(z, entries)]
    for number in range(15):
        entries = lloyd_step(z, entries, number, reach)
        errors.append(error(z, entries))
    assert all(after <= before * (1 + 1e-12) for before, after in pairwise(errors))
