"""How far reconstructions are from images, over a whole split."""

import math
from collections.abc import Iterator
from typing import Literal, get_args

import torch
from torch import Tensor

from vqkit.distributed import all_reduce
from vqkit.means import Mean
from vqkit.modalities.image.levels import to_level

WINDOW, SIGMA = 11, 1.5  # of SSIM, in pixels
C1, C2 = 0.01**2, 0.03**2  # of SSIM, for values in [0, 1]
ROUNDING = 1 / 12 / 255**2  # mean squared error of rounding to 8 bits

Part = Literal["squared_error", "value", "squared_value", "psnr", "ssim"]


class ImageMetrics:
    """Mean squared error, its ratio to the variance, PSNR and SSIM.

    Everything is kept as float64 totals and counts, so that the figures depend neither on the
    batches nor on the number of ranks. Values are on the scale from 0 (black) to 1 (white).

    Args:
        device: Where the images are.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        zero = torch.zeros((), dtype=torch.float64, device=device)
        self.parts = {part: Mean(zero, zero.long()) for part in get_args(Part)}

    @torch.no_grad()
    def add(self, x: Tensor, reconstruction: Tensor, mask: Tensor | None = None) -> None:
        """Counts a batch in.

        Args:
            x: Images, uint8 or floating in [-1, 1]. (B, C, H, W)
            reconstruction: The model's, floating in [-1, 1]. (B, C, H, W)
            mask: True where a pixel is real; None when all are. (B, H, W) bool
        """
        levels = x.double() if x.dtype == torch.uint8 else to_level(x)
        found = to_level(reconstruction)
        pixels = torch.ones_like(levels[:, 0], dtype=torch.bool) if mask is None else mask
        real = pixels.unsqueeze(1).expand_as(levels)
        error = ((levels - found) / 255).square().masked_fill(~real, 0)
        self._count("squared_error", Mean.over(error, real))
        # In whole levels, so that sums of 8-bit images are exact.
        self._count("value", Mean.over(levels, real))
        self._count("squared_value", Mean.over(levels.square(), real))
        each = error.flatten(1).sum(1) / real.flatten(1).sum(1).clamp(min=1)
        self._count("psnr", Mean.over(psnr(each.clamp(min=ROUNDING)), pixels.flatten(1).any(1)))
        for image, other in whole_images(levels / 255, found / 255, mask):
            if min(image.shape[-2:]) > WINDOW // 2:
                self._count("ssim", Mean.over(ssim(image, other)))

    def _count(self, part: Part, mean: Mean) -> None:
        self.parts[part] = self.parts[part] + mean

    def results(self) -> dict[str, float]:
        """The figures over all batches of all ranks; every rank must call it.

        Returns:
            ``mse``, the mean over all values, from 0 to 1; ``variance`` of all values of the
            images; ``mse_over_variance`` unless that is 0; ``psnr_db``, the mean of each image's
            (an error below that of rounding counts as such, 58.9 dB); ``psnr_of_mse_db``, that of
            the mean error; ``ssim``, the mean of each image's, if any has at least 6 x 6 pixels.
            Empty when there was nothing.
        """
        values = {
            part: Mean(all_reduce(mean.total.clone()), all_reduce(mean.count.clone()))
            for part, mean in self.parts.items()
        }
        if not values["value"].count:
            return {}
        mean = {part: float(pair.value) for part, pair in values.items()}
        mse = mean["squared_error"]
        variance = max(mean["squared_value"] - mean["value"] ** 2, 0.0) / 255**2
        found = {"mse": mse, "variance": variance}
        if variance > 0:
            found["mse_over_variance"] = mse / variance
        found["psnr_db"] = mean["psnr"]
        found["psnr_of_mse_db"] = -10 * math.log10(max(mse, ROUNDING))
        if values["ssim"].count:
            found["ssim"] = mean["ssim"]
        return found


def whole_images(x: Tensor, y: Tensor, mask: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
    """Pairs of images without padding: the whole batch where it has none, else one by one.

    Args:
        x: Images. (B, C, H, W)
        y: Images. (B, C, H, W)
        mask: True where a pixel is real; None when all are. (B, H, W) bool

    Returns:
        Each (b, C, h, w); images whose real pixels are no rectangle from the corner are left out.
    """
    if mask is None:
        yield x, y
        return
    for one, other, real in zip(x.split(1), y.split(1), mask, strict=True):
        height, width = int(real[:, 0].sum()), int(real[0].sum())
        if height and real[:height, :width].all() and real.sum() == height * width:
            yield one[..., :height, :width], other[..., :height, :width]


def psnr(mse: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB of errors on the scale from 0 to 1. (...)"""
    return -10 * mse.log10()


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each pair of images.

    Image Quality Assessment: From Error Visibility to Structural Similarity, equation 13,
    https://doi.org/10.1109/TIP.2003.819861; each channel alone, Gaussian windows of 11 x 11 pixels
    around every pixel, the image continued by reflection, as in torchmetrics.

    Args:
        x: Images in [0, 1], at least 6 pixels in height and width. (B, C, H, W)
        y: Images in [0, 1]. (B, C, H, W)

    Returns:
        Means over channels and windows. (B,)
    """
    rows, columns = (smoothing(length).to(x) for length in x.shape[-2:])

    def smooth(values: Tensor) -> Tensor:
        return rows @ values @ columns.T

    mean_x, mean_y = smooth(x), smooth(y)
    variances = smooth(x * x + y * y) - mean_x**2 - mean_y**2
    covariance = smooth(x * y) - mean_x * mean_y
    similarity = ((2 * mean_x * mean_y + C1) * (2 * covariance + C2)) / (
        (mean_x**2 + mean_y**2 + C1) * (variances + C2)
    )
    return similarity.flatten(1).mean(1)


def smoothing(length: int) -> Tensor:
    """The matrix that takes a line of pixels to its Gaussian means, reflected at both ends.

    Args:
        length: Number of pixels, more than half a window.

    Returns:
        Weights whose rows sum to 1. (length, length) float64
    """
    offsets = torch.arange(WINDOW) - WINDOW // 2
    weights = (-offsets.double().square() / (2 * SIGMA**2)).exp()
    sources = (torch.arange(length).unsqueeze(1) + offsets).abs()
    sources = torch.where(sources < length, sources, 2 * (length - 1) - sources)
    matrix = torch.zeros(length, length, dtype=torch.float64)
    return matrix.scatter_add_(1, sources, (weights / weights.sum()).expand(length, -1))
