"""Figures of vectors against numpy, whatever the batches and the ranks."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pair import run_pair
from torch import Tensor

from vqkit import distributed
from vqkit.modalities.vector import VectorMetrics
from vqkit.modalities.vector.moments import Moments


def pair(num: int = 50, dim: int = 6, offset: float = 0.0) -> tuple[Tensor, Tensor]:
    """Vectors whose columns differ in spread, and others near to them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, dim, generator=generator) * torch.arange(1, dim + 1) + offset
    return x, x + 0.3 * torch.randn(num, dim, generator=generator)


def measured(x: Tensor, y: Tensor, size: int, mask: Tensor | None = None) -> dict[str, float]:
    metrics = VectorMetrics()
    masks = [None] * len(x) if mask is None else mask.split(size)
    for one, other, real in zip(x.split(size), y.split(size), masks, strict=False):
        metrics.add(one, other, real)
    return metrics.results()


def expected(x: Tensor, y: Tensor) -> dict[str, float]:
    a, b = x.double().numpy(), y.double().numpy()
    mse, variance = np.mean((a - b) ** 2), a.var(0).mean()
    share = mse / variance
    return {
        "mse": mse,
        "variance": variance,
        "mse_over_variance": share,
        "explained_variance": 1 - share,
    }


@pytest.mark.parametrize("size", [1, 7, 50])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_figures_are_those_of_numpy_for_any_batches(size: int, offset: float):
    x, y = pair(offset=offset)
    assert measured(x, y, size) == pytest.approx(expected(x, y), rel=1e-9)


def test_explained_variance_is_that_of_sklearn_weighted_by_variance():
    from sklearn.metrics import r2_score

    x, y = pair()
    score = r2_score(x.numpy(), y.numpy(), multioutput="variance_weighted")
    assert measured(x, y, 9)["explained_variance"] == pytest.approx(score, rel=1e-6)


def test_masked_vectors_do_not_count_whatever_they_hold():
    x, y = pair()
    mask = torch.rand(50, generator=torch.Generator().manual_seed(1)) > 0.4
    holes = x.masked_fill(~mask.unsqueeze(1), torch.nan)
    assert measured(holes, y, 8, mask) == pytest.approx(expected(x[mask], y[mask]), rel=1e-9)


def test_a_perfect_copy_and_the_mean_are_the_ends_of_the_scale():
    x, _ = pair()
    assert measured(x, x, 10)["explained_variance"] == 1
    mean = x.double().mean(0).expand_as(x)
    assert measured(x, mean, 10)["explained_variance"] == pytest.approx(0, abs=1e-12)


def test_vectors_that_do_not_vary_have_no_share_of_the_variance():
    x = torch.ones(5, 3)
    assert measured(x, x + 1, 2) == {"mse": 1.0, "variance": 0.0}


def test_nothing_has_no_figures():
    assert VectorMetrics().results() == {}
    assert measured(*pair(), 50, torch.zeros(50).bool()) == {}


def share(first: int) -> dict[str, float]:
    """Rank 0 has the first vectors, rank 1 all others, in batches of other sizes."""
    x, y = pair()
    rows = slice(first) if distributed.is_main() else slice(first, None)
    return measured(x[rows], y[rows], 3 + distributed.rank())


@pytest.mark.parametrize("first", [0, 20])
def test_two_processes_have_the_figures_of_one_even_if_one_has_nothing(tmp_path: Path, first: int):
    for found in run_pair(share, tmp_path, first):
        assert found == pytest.approx(expected(*pair()), rel=1e-9)


def test_moments_of_parts_are_those_of_the_whole():
    x, _ = pair(offset=1e4)
    moments = Moments(6)
    for part in (x[:1], x[:0], x[1:30], x[30:]):
        moments.add(part)
    count, mean, variance = moments.joined()
    assert count == 50
    np.testing.assert_allclose(mean, x.double().mean(0), rtol=1e-13)
    np.testing.assert_allclose(variance, x.double().var(0, correction=0), rtol=1e-9)
