"""Mixtures of Gaussians with independent coordinates, and draws of them snapped to entries."""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from vqkit.random import hash_int, uniform_rows

START, DRAWS = 0, 1
"""Words that keep the random numbers of the start apart from those of the draws."""
CHUNK = 2**22


@dataclass(frozen=True, slots=True)
class Gaussians:
    """Gaussians with independent coordinates.

    Attributes:
        weights: How probable each is. (C,) float64
        means: (C, F) float64
        deviations: Standard deviations. (C, F) float64
    """

    weights: Tensor
    means: Tensor
    deviations: Tensor


def import_mixture() -> Any:
    """``sklearn.mixture``; raises ImportError with the way to get it where it is missing."""
    try:
        from sklearn import mixture
    except ImportError:
        raise ImportError(
            'the mixture prior needs scikit-learn; pip install "vqkit[mixture]"'
        ) from None
    return mixture


def fit_gaussians(vectors: Tensor, num: int, seed: int) -> Gaussians:
    """The Gaussians under which vectors are most probable, by expectation and maximisation.

    Args:
        vectors: At least one. (N, F)
        num: Number of Gaussians; N at most are made.
        seed: Of the start.

    Raises:
        ImportError: If scikit-learn is missing.
    """
    mixture = import_mixture()
    from sklearn.exceptions import ConvergenceWarning

    scale = float(vectors.std(0, correction=0).square().mean().sqrt()) or 1.0
    scaled = (vectors / scale).cpu()
    if len(scaled) == 1:
        scaled = scaled.repeat(2, 1)  # it refuses to fit one
    model = mixture.GaussianMixture(
        min(num, len(vectors)),
        covariance_type="diag",
        reg_covar=1e-4,  # of the variance of a coordinate
        random_state=hash_int(seed, START) % 2**32,
    )
    with warnings.catch_warnings():
        # Of few different items some Gaussians are alike: as good as fewer.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaled.numpy())
    return Gaussians(
        torch.as_tensor(model.weights_).double(),
        torch.as_tensor(model.means_).double() * scale,
        torch.as_tensor(model.covariances_).double().sqrt() * scale,
    )


def snapped_counts(
    means: Tensor, deviations: Tensor, entries: Tensor, draws: int, seed: int
) -> Tensor:
    """How often draws of Gaussians are nearest to each entry.

    All Gaussians are drawn from by the same numbers: that saves making them, and each row by itself
    is as random.

    Args:
        means: (G, D)
        deviations: Standard deviations. (G, D)
        entries: (K, D)
        draws: Number of draws of each.
        seed: Of the draws.

    Returns:
        Rows that sum to ``draws``. (G, K) int64
    """
    size, device = len(entries), entries.device
    counts = torch.zeros(len(means), size, dtype=torch.int64, device=device)
    center = entries.mean(0)
    entries, means = (entries - center).float(), (means.to(device) - center).float()
    deviations = deviations.to(device).float()
    # Nearest is where x e - e^2 / 2 is greatest, for x = mean + deviation * noise.
    known = means @ entries.T - entries.square().sum(1) / 2
    step = max(1, CHUNK // size)
    for first in range(0, draws, step):
        numbers = torch.arange(first, min(first + step, draws), device=device)
        uniforms = uniform_rows(seed, DRAWS, numbers, size=entries.shape[1])
        noise = torch.special.ndtri(uniforms).float()
        for row in range(len(means)):
            scores = noise @ (deviations[row] * entries).T + known[row]
            counts[row] += torch.bincount(scores.argmax(1), minlength=size)
    return counts
