"""The Frechet distance between two sets of images, seen as Gaussians of features."""

from dataclasses import dataclass

import torch
from torch import Tensor

ROWS = 8192  # that are made float64 at once


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """Mean and scatter of vectors; those of two sets can be added.

    Attributes:
        count: Number of vectors n.
        mean: (F,) float64
        scatter: Sum over vectors of the outer product of what differs from the mean with itself.
            (F, F) float64
    """

    count: int
    mean: Tensor
    scatter: Tensor

    @classmethod
    @torch.no_grad()
    def of(cls, features: Tensor) -> "Moments":
        """The moments of vectors. (N, F)

        Raises:
            ValueError: If there are none, or they are not finite.
        """
        if not len(features) or not features.isfinite().all():
            what = "not finite" if len(features) else "none"
            raise ValueError(f"the features are {what}; give at least one vector of finite numbers")
        first, *others = (cls._of_few(part.double()) for part in features.split(ROWS))
        return sum(others, start=first)

    @classmethod
    def _of_few(cls, x: Tensor) -> "Moments":
        mean = x.mean(0)
        return cls(len(x), mean, (x - mean).T @ (x - mean))

    def __add__(self, other: "Moments") -> "Moments":
        """The moments of both sets together.

        Updating Formulae and a Pairwise Algorithm for Computing Sample Variances, equation 2.1,
        http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf: no large numbers
        cancel, however far from 0 the vectors are.
        """
        count = self.count + other.count
        apart = other.mean - self.mean
        between = torch.outer(apart, apart) * (self.count * other.count / count)
        mean = self.mean + apart * (other.count / count)
        return Moments(count, mean, self.scatter + other.scatter + between)

    @property
    def covariance(self) -> Tensor:
        """Without bias, 0 for one vector. (F, F) float64"""
        return self.scatter / max(self.count - 1, 1)


@torch.no_grad()
def frechet_distance(a: Moments, b: Moments) -> float:
    """The squared Frechet distance of two Gaussians.

    |m_a - m_b|^2 + tr(A + B - 2 (A B)^(1/2)), GANs Trained by a Two Time-Scale Update Rule,
    equation 6, https://arxiv.org/abs/1706.08500. With A = R R' and B = S S' the last trace is the
    sum of the singular values of R' S: no root of a matrix that is not symmetric, and covariances
    of fewer vectors than dimensions are as good as any.

    The distance of finite sets is biased: fewer vectors, larger distance. Compare like numbers.

    Raises:
        ValueError: If the numbers of features differ.
    """
    if a.mean.shape != b.mean.shape:
        dims = f"{len(a.mean)} and {len(b.mean)}"
        raise ValueError(f"the features have {dims} dimensions; compare within one feature space")
    apart = (a.mean - b.mean).square().sum()
    traces = a.covariance.trace() + b.covariance.trace()
    common = torch.linalg.svdvals(root(a.covariance).T @ root(b.covariance)).sum()
    return max(float(apart + traces - 2 * common), 0.0)


def root(covariance: Tensor) -> Tensor:
    """A matrix R with R R' = covariance. (F, F) -> (F, r)

    Eigenvalues that rounding alone could have made are 0, lest their roots add up.
    """
    values, vectors = torch.linalg.eigh(covariance)
    least = values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    kept = values > least
    return vectors[:, kept] * values[kept].sqrt()
