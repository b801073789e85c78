"""What must hold for the figures of reconstructed images."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vqkit.modalities.image.metrics import ImageMetrics, ssim


def batch(num: int = 7, size: tuple[int, int] = (16, 20)) -> tuple[Tensor, Tensor]:
    """Images (num, 3, *size) uint8 and reconstructions, floating in [-1, 1]."""
    torch.manual_seed(0)
    x = torch.randint(0, 256, (num, 3, *size), dtype=torch.uint8)
    noise = torch.randn(x.shape) * torch.linspace(0.01, 0.5, num).view(-1, 1, 1, 1)
    return x, (x / 127.5 - 1 + noise).clamp(-1, 1)


def measured(x: Tensor, y: Tensor, mask: Tensor | None = None, *, size: int) -> dict[str, float]:
    metrics = ImageMetrics()
    for start in range(0, len(x), size):
        part = slice(start, start + size)
        metrics.add(x[part], y[part], None if mask is None else mask[part])
    return metrics.results()


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_figures_equal_a_plain_loop_over_all_images_whatever_the_batch_size(size: int):
    x, y = batch()
    errors, values, decibels = [], [], []
    for image, other in zip(x, y, strict=True):
        own = ((image.double() / 255 - (other.double() + 1) / 2) ** 2).flatten().tolist()
        errors += own
        values += (image.double() / 255).flatten().tolist()
        decibels.append(10 * math.log10(1 / (sum(own) / len(own))))
    mse = sum(errors) / len(errors)
    found = measured(x, y, size=size)
    assert found["mse"] == pytest.approx(mse, rel=1e-9)
    assert found["variance"] == pytest.approx(np.var(values), rel=1e-12)
    assert found["mse_over_variance"] == pytest.approx(mse / np.var(values), rel=1e-9)
    assert found["psnr_db"] == pytest.approx(sum(decibels) / len(decibels), rel=1e-9)
    assert found["psnr_of_mse_db"] == pytest.approx(-10 * math.log10(mse), rel=1e-9)


@pytest.mark.slow  # for the import
@pytest.mark.parametrize("size", [1, 3, 7])
def test_ssim_equals_torchmetrics(size: int):
    from torchmetrics.functional.image import structural_similarity_index_measure

    x, y = batch()
    expected = structural_similarity_index_measure(
        (y.double() + 1) / 2, x.double() / 255, data_range=1.0
    )
    assert measured(x, y, size=size)["ssim"] == pytest.approx(float(expected), rel=1e-9)


@pytest.mark.parametrize("side", [6, 8, 40])
def test_ssim_equals_windows_summed_one_by_one(side: int):
    x, y = torch.rand(2, 1, 1, side, side + 1, dtype=torch.float64)
    offsets = np.arange(11) - 5
    row = np.exp(-(offsets**2) / (2 * 1.5**2))
    weights = np.outer(row, row) / row.sum() ** 2
    a, b = (np.pad(image[0, 0].numpy(), 5, mode="reflect") for image in (x, y))
    values = []
    for i in range(side):
        for j in range(side + 1):
            p, q = a[i : i + 11, j : j + 11], b[i : i + 11, j : j + 11]
            m, n = (weights * p).sum(), (weights * q).sum()
            v, w = (weights * (p - m) ** 2).sum(), (weights * (q - n) ** 2).sum()
            c = (weights * (p - m) * (q - n)).sum()
            luminance = (2 * m * n + 1e-4) / (m**2 + n**2 + 1e-4)
            values.append(luminance * (2 * c + 9e-4) / (v + w + 9e-4))
    assert float(ssim(x, y)) == pytest.approx(np.mean(values), rel=1e-9)


def test_a_perfect_reconstruction_has_no_error_and_finite_figures():
    x, _ = batch()
    found = measured(x, x / 127.5 - 1, size=3)
    assert found["mse"] < 1e-13
    assert found["ssim"] == pytest.approx(1)
    assert found["psnr_db"] == pytest.approx(58.92, abs=0.01)


def test_the_variance_of_eight_bit_images_is_exact():
    """One pixel in a thousand differs by one level, far from zero."""
    x = torch.full((10, 1, 10, 10), 254, dtype=torch.uint8)
    x[3, 0, 2, 1] = 255
    expected = (1 / 1000 - 1 / 1000**2) / 255**2
    found = measured(x, x / 127.5 - 1, size=3)
    assert found["variance"] == pytest.approx(expected, rel=1e-9)


def test_padding_has_no_part_in_any_figure():
    sizes = [(8, 9), (12, 6), (7, 12)]
    singles = [batch(1, size) for size in sizes]
    x = torch.full((3, 3, 12, 12), 77, dtype=torch.uint8)
    y, mask = torch.zeros(3, 3, 12, 12), torch.zeros(3, 12, 12, dtype=torch.bool)
    alone = ImageMetrics()
    for i, ((height, width), (image, other)) in enumerate(zip(sizes, singles, strict=True)):
        x[i, :, :height, :width] = image[0]
        y[i, :, :height, :width] = other[0]
        mask[i, :height, :width] = True
        alone.add(image, other)
    assert measured(x, y, mask, size=2) == pytest.approx(alone.results(), rel=1e-9)


def test_floating_images_are_measured_like_their_levels():
    x, y = batch()
    found, expected = measured(x / 127.5 - 1, y, size=3), measured(x, y, size=3)
    assert found == pytest.approx(expected, rel=1e-5)


def test_images_too_small_for_a_window_have_no_ssim():
    assert "ssim" not in measured(*batch(size=(5, 20)), size=3)


def test_images_all_alike_have_no_ratio_to_their_variance():
    x = torch.full((4, 1, 8, 8), 9, dtype=torch.uint8)
    found = measured(x, torch.zeros(4, 1, 8, 8), size=3)
    assert found["variance"] == 0
    assert "mse_over_variance" not in found


def test_nothing_measured_gives_no_figures():
    assert ImageMetrics().results() == {}
