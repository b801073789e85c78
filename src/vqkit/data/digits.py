"""The handwritten digits that scikit-learn ships: real data without a download."""

import numpy as np


def read_digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 images of the UCI Optical Recognition of Handwritten Digits, and their classes.

    Returns:
        Images, their levels 0..16 stretched to 0..255, (1797, 8, 8) uint8; classes (1797,) int64.

    Raises:
        ValueError: If scikit-learn is not installed.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError(
            'the digits come with scikit-learn; install it with: pip install "vqkit[demo]"'
        ) from None
    levels, classes = load_digits(return_X_y=True)
    images = np.rint(levels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    return images, classes.astype(np.int64)
