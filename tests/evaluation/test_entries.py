"""What must hold for the figures of a codebook's entries."""

from pathlib import Path

import pytest
import torch
from tests.pair import run_pair
from torch import Tensor

from vqkit import distributed
from vqkit.evaluation import Fit, FitCounter, Layout
from vqkit.evaluation.entries import MOST_ROWS, gaps_of
from vqkit.quantizers import Codebook, EMAVectorQuantizer

DIM, SIZE = 3, 12


def data(num: int = 500) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num, DIM, generator=generator) * torch.tensor([3.0, 1, 0.2]) + 10


def book(metric: str = "euclidean") -> Codebook:
    return Codebook.from_entries(data(SIZE) + 0.1, metric=metric)  # pyright: ignore


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_the_layout_equals_that_of_all_pairs(offset: float):
    table = data(50) + offset
    layout = Layout.of(table)
    pairs = (table.double().unsqueeze(1) - table.double()).norm(dim=-1)
    nearest = pairs.masked_fill(torch.eye(50, dtype=torch.bool), torch.inf).amin(1)
    assert layout.gaps == pytest.approx((float(nearest.min()), float(nearest.mean())), rel=1e-6)
    lengths = table.double().norm(dim=1)
    assert list(layout.norms) == pytest.approx(
        [float(x) for x in (lengths.min(), lengths.mean(), lengths.max())]
    )
    assert layout.duplicates == 0


def test_entries_that_equal_another_are_counted():
    table = data(10)
    layout = Layout.of(torch.cat([table, table[:3], table[:1]]))
    assert layout.duplicates == 4
    assert layout.gaps[0] == 0


def test_of_a_large_codebook_some_entries_tell_for_all():
    grid = torch.arange(3 * MOST_ROWS).unsqueeze(1).float()
    gaps = gaps_of(grid.double())
    assert len(gaps) == MOST_ROWS
    assert (gaps == 1).all()


@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@torch.no_grad()
def test_the_fit_equals_that_by_hand(metric: str):
    one, z = book(metric), data()
    counter = FitCounter(one)
    for part in z.split(77):
        counter.add(one.project(part))
    fit, seen = counter.fit(), one.project(z).double()
    indices = (seen.unsqueeze(1) - one.table.double()).square().sum(-1).argmin(1)
    error = (seen - one.table.double()[indices]).square().mean()
    means = one.table.double().clone()
    for k in indices.unique():
        means[k] = one.placed(seen[indices == k].mean(0))
    assert fit.mse == pytest.approx(float(error), rel=1e-6)
    assert fit.variance == pytest.approx(float(seen.var(0, correction=0).mean()), rel=1e-6)
    assert fit.mse_of_means == pytest.approx(
        float((seen - means[indices]).square().mean()), rel=1e-5
    )
    assert fit.share == pytest.approx(fit.mse / fit.variance)
    assert (fit.num_vectors, fit.num_used) == (500, len(indices.unique()))


def test_one_pass_of_a_refit_takes_away_what_was_foretold():
    layer, z = EMAVectorQuantizer(DIM, SIZE, codebook=book()), data()
    counter = FitCounter(layer.codebook)
    counter.add(z)
    foretold = counter.fit()
    layer.refit([z], passes=1)
    counter = FitCounter(layer.codebook)
    counter.add(z)
    assert counter.fit().mse <= foretold.mse_of_means * (1 + 1e-6) < foretold.mse
    assert foretold.gain > 0.05


def test_entries_at_the_true_centres_have_nothing_to_gain_from_means_of_a_sample():
    """On average: the means of a few vectors are nearer to just these by chance."""
    gains, raw = [], []
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        centers = 100 * torch.randn(SIZE, DIM, generator=generator)
        which = torch.arange(20 * SIZE) % SIZE
        counter = FitCounter(Codebook.from_entries(centers))
        counter.add(centers[which] + torch.randn(20 * SIZE, DIM, generator=generator))
        fit = counter.fit()
        gains.append(fit.gain)
        raw.append(1 - fit.mse_of_means / fit.mse)
    assert sum(raw) / 30 == pytest.approx(0.05, abs=0.01)
    assert sum(gains) / 30 == pytest.approx(0, abs=0.01)


def test_without_vectors_there_is_no_fit_and_without_variance_no_share():
    assert FitCounter(book()).fit() is None
    counter = FitCounter(Codebook.from_entries(torch.eye(DIM)))
    counter.add(torch.zeros(5, DIM))
    fit = counter.fit()
    assert (fit.variance, fit.share) == (0, 0)
    assert Fit(0, 1, 0, 5, 2).gain == 0


def counted() -> tuple:
    counter, z = FitCounter(book()), data()
    if distributed.is_distributed():
        z = z[:100] if distributed.rank() == 0 else z[100:]
    counter.add(z)
    fit = counter.fit()
    return fit.mse, fit.variance, fit.mse_of_means, fit.num_vectors, fit.num_used


def test_two_processes_find_the_fit_of_one(tmp_path: Path):
    for one in run_pair(counted, tmp_path):
        assert one == pytest.approx(counted(), rel=1e-12)
