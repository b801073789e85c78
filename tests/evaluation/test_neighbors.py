"""What must hold for neighbours, precision and recall."""

from pathlib import Path

import pytest
import torch
from tests.pair import run_pair
from torch import Tensor

from vqkit import distributed
from vqkit.evaluation import Nearest, neighbors, precision_recall
from vqkit.evaluation.neighbors import covered, distances, radii


def cloud(num: int, *, seed: int, dim: int = 4) -> Tensor:
    return torch.randn(num, dim, generator=torch.Generator().manual_seed(seed))


def brute(real: Tensor, generated: Tensor, k: int) -> tuple[float, float]:
    """Both figures by loops over pairs of points."""

    def distance(a: Tensor, b: Tensor) -> float:
        return float((a.double() - b.double()).square().sum().sqrt())

    def share(points: Tensor, centers: Tensor) -> float:
        reach = []
        for i, center in enumerate(centers):
            others = [distance(center, other) for j, other in enumerate(centers) if j != i]
            reach.append(sorted(others)[k - 1])
        inside = [
            any(distance(point, c) <= r for c, r in zip(centers, reach, strict=True))
            for point in points
        ]
        return sum(inside) / len(inside)

    return share(generated, real), share(real, generated)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_precision_and_recall_equal_a_loop_over_all_pairs(k: int):
    real, generated = cloud(31, seed=0), 0.8 * cloud(27, seed=1) + 0.3
    assert precision_recall(real, generated, k) == pytest.approx(brute(real, generated, k))


def test_precision_and_recall_of_points_placed_by_hand():
    """Real points at 0, 1, 2, 10; each ball of the nearest other one has radius 1, 1, 1, 8."""
    real = torch.tensor([[0.0], [1], [2], [10]])
    near, far = torch.tensor([[-1.0], [3], [-2]]), torch.tensor([[40.0], [50], [60]])
    assert precision_recall(real, near, 1)[0] == pytest.approx(2 / 3)  # the surface counts
    assert precision_recall(real, far, 1) == (0, 0)
    assert precision_recall(real, real.clone(), 1) == (1, 1)


def test_features_of_unlike_spaces_are_refused():
    with pytest.raises(ValueError, match=r"\(9, 4\) and \(9, 5\); give \(N, F\) and \(M, F\)"):
        precision_recall(cloud(9, seed=0, dim=4), cloud(9, seed=0, dim=5))


def test_a_set_in_one_corner_is_precise_and_recalls_little():
    real = torch.cat([cloud(50, seed=0), cloud(50, seed=1) + 100])
    precision, recall = precision_recall(real, cloud(100, seed=2))
    assert precision > 0.6
    assert recall <= 0.5


def test_copies_count_as_neighbours_and_a_ball_of_no_size_holds_what_equals_it():
    point = cloud(1, seed=0) * 1e3
    copies = point.expand(5, -1)
    assert radii(copies, 3).tolist() == [0] * 5
    assert precision_recall(copies, point.expand(6, -1)) == (1, 1)
    assert precision_recall(copies, point.expand(6, -1) + 1e-3) == (0, 0)


def test_equal_vectors_are_at_distance_zero_however_far_from_the_origin():
    x = cloud(40, seed=0, dim=300) + 1e4
    table = distances(x, x.clone())
    assert (table.diagonal() == 0).all()
    assert torch.equal(table, table.T)


def test_what_is_chunked_equals_what_is_not(monkeypatch: pytest.MonkeyPatch):
    real, generated = cloud(31, seed=0), cloud(27, seed=1)
    whole = precision_recall(real, generated)
    reach, inside = radii(real, 2), covered(generated, real, radii(real, 2))
    monkeypatch.setattr(neighbors, "DISTANCES", 70)
    assert precision_recall(real, generated) == whole
    assert torch.equal(radii(real, 2), reach)
    assert torch.equal(covered(generated, real, reach), inside)


@pytest.mark.parametrize("k", [0, 5])
def test_too_few_images_are_refused(k: int):
    with pytest.raises(ValueError, match=f"k is {k} for 5 images"):
        precision_recall(cloud(5, seed=0), cloud(9, seed=1), k)


@pytest.mark.parametrize("size", [1, 7, 50])
def test_the_nearest_of_points_given_in_parts_are_those_of_a_full_sort(size: int):
    queries, points = cloud(13, seed=0), cloud(50, seed=1)
    nearest = Nearest(queries, 3)
    for numbers in torch.arange(50).split(size):
        nearest.add(points[numbers], 100 + numbers)
    lengths, numbers = nearest.results()
    expected = (queries[:, None].double() - points.double()).norm(dim=2).sort(dim=1)
    assert torch.equal(numbers, 100 + expected.indices[:, :3])
    torch.testing.assert_close(lengths, expected.values[:, :3])


def test_of_equally_near_points_the_first_wins():
    points = torch.tensor([[2.0], [-1], [1], [-1]])
    nearest = Nearest(torch.zeros(1, 1), 3)
    for number, point in enumerate(points):
        nearest.add(point[None], torch.tensor([number]))
    assert nearest.results()[1].tolist() == [[1, 2, 3]]


def test_where_there_are_fewer_points_the_rest_is_infinitely_far():
    nearest = Nearest(torch.zeros(2, 1), 3)
    nearest.add(torch.ones(1, 1), torch.tensor([4]))
    lengths, numbers = nearest.results()
    assert lengths.tolist() == [[1, torch.inf, torch.inf]] * 2
    assert numbers[:, 0].tolist() == [4, 4]


def ranked(num: int) -> tuple[Tensor, Tensor]:
    nearest = Nearest(cloud(13, seed=0), 3)
    half = range(num // 2) if distributed.rank() == 0 else range(num // 2, num)
    if half:
        numbers = torch.tensor(list(half))
        nearest.add(cloud(num, seed=1).round()[numbers], numbers)
    return nearest.results()


@pytest.mark.slow
@pytest.mark.parametrize("num", [1, 40])
def test_two_processes_find_the_neighbours_that_one_finds(tmp_path: Path, num: int):
    alone = Nearest(cloud(13, seed=0), 3)
    alone.add(cloud(num, seed=1).round(), torch.arange(num))
    expected = alone.results()
    for lengths, numbers in run_pair(ranked, tmp_path, num):
        assert torch.equal(lengths, expected[0])
        assert torch.equal(numbers[:, : min(num, 3)], expected[1][:, : min(num, 3)])
