"""Colours for codes: alike for codes that stand for like vectors."""

import torch
from torch import Tensor

# OKLab to the cube roots of cone responses, and those responses to linear sRGB,
# https://bottosson.github.io/posts/oklab/
TO_CONES = ((1.0, 0.3963377774, 0.2158037573), (1.0, -0.1055613458, -0.0638541728))
TO_CONES = (*TO_CONES, (1.0, -0.0894841775, -1.2914855480))
TO_RGB = ((4.0767416621, -3.3077115913, 0.2309699292),)
TO_RGB = (*TO_RGB, (-1.2684380046, 2.6097574011, -0.3413193965))
TO_RGB = (*TO_RGB, (-0.0041960863, -0.7034186147, 1.7076147010))
LIGHTNESS, CHROMA = (0.25, 0.9), 0.14  # so far all of it can be shown, or nearly


def code_colors(vectors: Tensor) -> Tensor:
    """One colour for each vector: equal vectors have equal colours, near ones near colours.

    The ranks along the three principal axes become lightness and the two axes of hue in OKLab.

    Args:
        vectors: What the codes stand for. (N, D)

    Returns:
        sRGB levels. (N, 3) uint8
    """
    unique, place = vectors.double().unique(dim=0, return_inverse=True)
    centered = unique - unique.mean(0)
    axes = torch.linalg.svd(centered, full_matrices=False).Vh[:3]
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True))
    projections = centered @ (axes * largest.sign()).T  # a sign that does not depend on the solver
    ranks = projections.argsort(0).argsort(0).double() / max(len(unique) - 1, 1)
    ranks = torch.nn.functional.pad(ranks, (0, 3 - ranks.shape[1]), value=0.5)
    low, high = LIGHTNESS
    lab = torch.cat([low + (high - low) * ranks[:, :1], CHROMA * (2 * ranks[:, 1:] - 1)], dim=1)
    return oklab_to_srgb(lab)[place]


def oklab_to_srgb(lab: Tensor) -> Tensor:
    """Colours in OKLab as the nearest levels of sRGB. (N, 3) -> (N, 3) uint8"""
    cones = (lab @ lab.new_tensor(TO_CONES).T) ** 3
    linear = (cones @ lab.new_tensor(TO_RGB).T).clamp(0, 1)
    srgb = torch.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (srgb * 255).round().to(torch.uint8)
