"""What must hold for the first codebook."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import kmeans as module
from vqkit.quantizers.kmeans import draw, kmeans, lloyd_step, sequential_start, start_in_rounds
from vqkit.quantizers.search import nearest


def error(points: Tensor, entries: Tensor) -> float:
    """Mean squared error over the coordinates."""
    return (points - entries[nearest(points, entries)]).square().mean().item()


def clusters(num: int, per_cluster: int, dim: int = 8) -> tuple[Tensor, Tensor]:
    """Tight, far clusters, and their centres. (num * per_cluster, dim), (num, dim)"""
    torch.manual_seed(0)
    centers = 10 * torch.randn(num, dim)
    return (centers.unsqueeze(1) + 0.1 * torch.randn(num, per_cluster, dim)).flatten(0, 1), centers


@pytest.mark.parametrize("seed", range(5))
def test_every_cluster_that_is_far_from_the_others_gets_its_entry(seed: int):
    points, centers = clusters(50, 20)
    found = kmeans(points, 50, seed=seed)
    assert sorted(nearest(centers, found.entries).tolist()) == list(range(50))
    assert found.counts.tolist() == [20] * 50


def test_entries_are_the_means_and_counts_the_numbers_of_their_vectors():
    torch.manual_seed(0)
    points = torch.randn(500, 4)
    found = kmeans(points, 3, seed=0, iterations=50)  # until nothing moves
    indices = nearest(points, found.entries)
    for k in range(3):
        assert_close(found.entries[k], points[indices == k].mean(0))
        assert found.counts[k] == (indices == k).sum()


@pytest.mark.slow
@pytest.mark.parametrize(("dim", "size"), [(2, 30), (16, 100)])
def test_the_error_is_near_that_of_scikit_learns_best_of_ten(dim: int, size: int):
    from sklearn.cluster import KMeans

    torch.manual_seed(0)
    points = torch.randn(3000, dim) * torch.linspace(0.2, 2, dim)
    best = KMeans(size, n_init=10, random_state=0).fit(points.numpy())
    expected = best.inertia_ / points.numel()
    for seed in range(3):
        assert error(points, kmeans(points, size, seed=seed).entries) < 1.05 * expected


def test_each_lloyd_step_lowers_the_error():
    torch.manual_seed(0)
    points = torch.randn(1000, 4)
    entries = points[:20]
    for _ in range(10):
        better = lloyd_step(points, entries, seed=0)
        assert error(points, better) < error(points, entries)
        entries = better


def test_an_empty_cluster_is_reseeded_with_a_vector_far_from_its_entry():
    points, _ = clusters(4, 20)
    # Two entries for the first cluster and none for the last; two where nobody is.
    entries = torch.stack([points[0], points[20], points[40], points[0] + 1e3, points[0] - 1e3])
    moved = lloyd_step(points, entries, seed=0)
    assert moved.isfinite().all()
    assert error(points, lloyd_step(points, moved, seed=1)) < 0.01 * error(points, entries)
    assert len(moved[3:].unique(dim=0)) == 2
    for entry in moved[3:]:
        assert (points == entry).all(-1).any()


@pytest.mark.parametrize("distinct", [1, 3])
def test_equal_vectors_give_finite_entries_and_counts_that_add_up(distinct: int):
    torch.manual_seed(0)
    points = torch.randn(distinct, 4).repeat(20, 1)
    found = kmeans(points, 8, seed=0)
    assert found.entries.isfinite().all()
    assert found.counts.sum() == len(points)
    assert error(points, found.entries) < 1e-12


def test_fewer_vectors_than_entries_are_all_entries_and_the_rest_are_noisy_copies():
    torch.manual_seed(0)
    points = torch.randn(5, 4)
    found = kmeans(points, 12, seed=0)
    assert error(points, found.entries) < 1e-12
    assert sorted(found.counts.tolist()) == [0] * 7 + [1] * 5
    assert len(found.entries.unique(dim=0)) == 12
    assert error(found.entries, points) < 1e-2


def test_the_result_is_a_function_of_the_seed():
    torch.manual_seed(0)
    points = torch.randn(500, 4)
    once, again, other = (kmeans(points, 20, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(once.entries, again.entries)
    assert not torch.equal(once.entries, other.entries)


def test_far_from_the_origin_the_clusters_are_found_as_well():
    points, centers = clusters(30, 20)
    found = kmeans(points + 1000, 30, seed=0)
    assert sorted(nearest(centers + 1000, found.entries).tolist()) == list(range(30))


def test_double_precision_stays_double():
    assert kmeans(torch.randn(50, 4, dtype=torch.float64), 8, seed=0).entries.dtype == torch.float64


def test_the_greedy_start_leaves_less_error_than_uniform_draws():
    points, _ = clusters(50, 20)
    assert error(points, sequential_start(points, 50, seed=0)) < 0.05
    assert error(points, points[torch.randperm(1000)[:50]]) > 0.05


def test_a_start_in_rounds_draws_distinct_vectors_that_leave_little_error():
    points, _ = clusters(50, 40)
    entries = start_in_rounds(points, 200, seed=0)
    assert entries.shape == (200, 8)
    assert len(entries.unique(dim=0)) == 200
    assert error(points, entries) < 0.05


def test_the_start_of_a_large_codebook_takes_no_pass_per_entry(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "MAX_SEQUENTIAL", 16)
    monkeypatch.setattr(module, "sequential_start", None)
    points, _ = clusters(50, 40)
    assert error(points, kmeans(points, 200, seed=0).entries) < 0.01


def test_the_sequential_start_looks_at_a_bounded_number_of_vectors(
    monkeypatch: pytest.MonkeyPatch,
):
    points, _ = clusters(10, 400)
    monkeypatch.setattr(module, "MAX_START_VECTORS", 500)
    seen = []

    def start(points: Tensor, size: int, seed: int) -> Tensor:
        seen.append(len(points))
        return sequential_start(points, size, seed)

    monkeypatch.setattr(module, "sequential_start", start)
    found = kmeans(points, 10, seed=0)
    assert seen == [500]
    assert found.counts.tolist() == [400] * 10


def test_draws_follow_the_weights():
    uniforms = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    counts = draw(torch.tensor([0.0, 1.0, 0.0, 3.0, 0.0]), uniforms).bincount(minlength=5)
    assert counts.tolist() == [0, 2500, 0, 7500, 0]


def test_a_start_from_nothing_or_from_no_numbers_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        kmeans(torch.zeros(0, 4), 8, seed=0)
    with pytest.raises(ValueError, match="not finite"):
        kmeans(torch.full((10, 4), torch.nan), 8, seed=0)


def test_autocast_does_not_change_the_start():
    torch.manual_seed(0)
    vectors = torch.randn(2000, 32)
    with torch.autocast("cpu", torch.bfloat16):
        inside = kmeans(vectors, 64, seed=0, iterations=0)
    assert torch.equal(inside.entries, kmeans(vectors, 64, seed=0, iterations=0).entries)
