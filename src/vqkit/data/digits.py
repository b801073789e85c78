"""The handwritten digits that scikit-learn ships: real data without a download."""

from typing import Any

import numpy as np


def read_digits() -> np.ndarray:
    """The 1,797 images of the UCI Optical Recognition of Handwritten Digits, 8 x 8.

    Returns:
        Levels 0..16 stretched to 0..255. (1797, 8, 8) uint8

    Raises:
        ValueError: If scikit-learn is not installed.
    """
    return np.rint(np.asarray(_load().images) * (255 / 16)).astype(np.uint8)


def read_digit_classes() -> np.ndarray:
    """Which digit each image shows. (1797,) int64"""
    return np.asarray(_load().target, dtype=np.int64)


def _load() -> Any:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError(
            'the digits come with scikit-learn; install it with: pip install "vqkit[demo]"'
        ) from None
    return load_digits()
