"""Mean and variance of each column of vectors, in one pass."""

import torch
from torch import Tensor

from vqkit.distributed import all_reduce


class Moments:
    """Mean and variance of each column in float64, as exact far from the origin as near it.

    Batches are joined by the formulas of Chan, Golub and LeVeque, Algorithms for Computing the
    Sample Variance, equation 2.1, https://doi.org/10.1080/00031305.1983.10483115

    Args:
        dim: Number of columns D.
        device: Where the vectors are.
    """

    def __init__(self, dim: int, device: torch.device | str = "cpu") -> None:
        self.mean = torch.zeros(dim, dtype=torch.float64, device=device)
        self.squares = torch.zeros_like(self.mean)  # of deviations from the mean, summed up
        self.count = torch.zeros((), dtype=torch.float64, device=device)

    def add(self, x: Tensor) -> None:
        """Counts vectors in. (N, D)"""
        if not len(x):
            return
        x = x.to(self.mean)
        mean, total = x.mean(0), self.count + len(x)
        gap, share = mean - self.mean, len(x) / total
        self.squares += (x - mean).square().sum(0) + gap.square() * self.count * share
        self.mean += gap * share
        self.count = total

    def joined(self) -> tuple[Tensor, Tensor, Tensor]:
        """Number of vectors, mean and variance over all ranks; every rank must call it.

        Returns:
            (), (D,) and (D,) float64; 0 where there was no vector.
        """
        total = all_reduce(self.count.clone())
        mean = all_reduce(self.mean * self.count) / total.clamp(min=1)
        squares = all_reduce(self.squares + self.count * (self.mean - mean).square())
        return total, mean, squares / total.clamp(min=1)
