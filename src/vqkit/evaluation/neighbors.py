"""Exact nearest neighbours and what follows from them: precision, recall, and copies."""

import torch
from torch import Tensor

from vqkit.distributed import all_gather

DISTANCES = 2**22  # that are in memory at once


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Euclidean distances: 0 for equal vectors, the same from a to b as from b to a.

    Args:
        a: (N, F)
        b: (M, F)

    Returns:
        (N, M) float64
    """
    # By differences: the expansion by products would put copies a little apart.
    mode = "donot_use_mm_for_euclid_dist"
    return torch.cdist(a.double(), b.double(), compute_mode=mode)


def rows_at_once(num: int) -> int:
    """How many rows of so many distances fit into memory."""
    return max(1, DISTANCES // max(num, 1))


@torch.no_grad()
def radii(points: Tensor, k: int) -> Tensor:
    """The distance from each point to the k-th nearest other one; a copy is another one.

    Args:
        points: (N, F)
        k: At least 1 and less than N.

    Returns:
        (N,) float64

    Raises:
        ValueError: If k is out of range.
    """
    if not 1 <= k < len(points):
        raise ValueError(
            f"k is {k} for {len(points)} images; take a k of at least 1, and more than k images"
        )
    found = []
    for rows in torch.arange(len(points), device=points.device).split(rows_at_once(len(points))):
        table = distances(points[rows], points)
        table[torch.arange(len(rows), device=table.device), rows] = torch.inf  # itself
        found.append(table.kthvalue(k, dim=1).values)
    return torch.cat(found)


@torch.no_grad()
def covered(points: Tensor, centers: Tensor, radius: Tensor) -> Tensor:
    """Which points lie in a ball around some centre, its surface included.

    Args:
        points: (N, F)
        centers: (M, F)
        radius: Of the ball around each centre. (M,)

    Returns:
        (N,) bool
    """
    parts = points.split(rows_at_once(len(centers)))
    return torch.cat([(distances(part, centers) <= radius).any(1) for part in parts])


def precision_recall(real: Tensor, generated: Tensor, k: int = 3) -> tuple[float, float]:
    """The share of generated images that look real, and of real images that could be generated.

    Improved Precision and Recall Metric for Assessing Generative Models, equations 1 and 2,
    https://arxiv.org/abs/1904.06991: a set is taken to fill the balls around its points that
    reach to the k-th nearest other point of it, surfaces included. So among more than k copies a
    ball has radius 0, and holds just what equals them. Take as many of one as of the other.

    Args:
        real: Features. (N, F)
        generated: Features. (M, F)
        k: Larger balls are kinder to both.

    Raises:
        ValueError: If one of the sets has not more than k images, or features do not fit together.
    """
    if real.dim() != 2 or generated.dim() != 2 or real.shape[1] != generated.shape[1]:
        found = f"{tuple(real.shape)} and {tuple(generated.shape)}"
        raise ValueError(f"features have shapes {found}; give (N, F) and (M, F) of one space")
    precise = covered(generated, real, radii(real, k))
    recalled = covered(real, generated, radii(generated, k))
    return float(precise.double().mean()), float(recalled.double().mean())


class Nearest:
    """Finds the nearest of many points that are given part by part, and not kept.

    Args:
        queries: Whose neighbours are looked for, the same on every rank. (N, F)
        k: Number of neighbours of each.
    """

    def __init__(self, queries: Tensor, k: int = 1) -> None:
        self.queries, self.k = queries.double(), k
        self.best = self.queries.new_full((len(queries), k), torch.inf)
        self.numbers = torch.zeros_like(self.best, dtype=torch.int64)

    @torch.no_grad()
    def add(self, points: Tensor, numbers: Tensor) -> None:
        """Looks at more points.

        Args:
            points: (M, F)
            numbers: What they are called, greater than all before. (M,) int64
        """
        for rows in torch.arange(len(self.queries)).split(rows_at_once(len(points))):
            found = distances(self.queries[rows], points)
            best, order = torch.cat([self.best[rows], found], 1).sort(dim=1, stable=True)
            names = torch.cat([self.numbers[rows], numbers.expand(len(rows), -1)], 1)
            self.best[rows] = best[:, : self.k]
            self.numbers[rows] = names.gather(1, order[:, : self.k])

    def results(self) -> tuple[Tensor, Tensor]:
        """The nearest points of all ranks, every one of which must call it.

        Ranks look at points of ascending numbers. Of equally near points the lowest number wins.

        Returns:
            Distances, infinite where there were fewer points, (N, k) float64; and numbers (N, k).
        """
        best = all_gather(self.best).movedim(0, 1).flatten(1)
        numbers = all_gather(self.numbers).movedim(0, 1).flatten(1)
        best, order = best.sort(dim=1, stable=True)
        return best[:, : self.k], numbers.gather(1, order[:, : self.k])
