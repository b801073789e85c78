"""What is particular to vectors, for all that shows, measures and writes items."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from vqkit.atomic import atomic_file
from vqkit.modalities.base import Figure
from vqkit.modalities.vector.metrics import VectorMetrics

HEIGHT, WIDTH = 64, 128  # pixels of the picture of a vector
INK, PAPER = 40, 255


class VectorModality:
    """Vectors of real numbers."""

    name, item, items, an_item, suffix = "vector", "vector", "vectors", "a vector", ".npy"
    collection = "vectors.npy"
    dimension = "one number of a vector"
    plain = (32, "32-bit floats")
    shows_entries = False
    figures = (
        Figure("mse", "MSE"),
        Figure("explained_variance", "explained variance", note="1 is a perfect copy"),
        Figure("mse_over_variance", "MSE / variance", note="share of the variance that is lost"),
        Figure("recall_at_1", "recall@1", note="the nearest of the training vectors, by codes"),
        Figure("recall_at_10", "recall@10", note="the nearest is among 10 that are found"),
        Figure("recall_at_100", "recall@100", note="the nearest is among 100 that are found"),
        Figure("collision_rate", "collisions", note="share of vectors with codes of another"),
    )
    scale = "Errors are in the units of the data."

    def size(self, shape: Sequence[int]) -> str:
        """The number of columns."""
        return f"of {shape[0]:,} numbers"

    def metrics(self, device: torch.device | str) -> VectorMetrics:
        """What measures reconstructions."""
        return VectorMetrics(device=device)

    def stored(self, x: Tensor) -> Tensor:
        """Single precision. (B, D) float32"""
        return x.float()

    def save(self, path: Path, x: Tensor) -> None:
        """Writes one vector (D,) as an npy file."""
        self.save_all(path, [x])

    def save_all(self, path: Path, items: Iterable[Tensor]) -> None:
        """Writes vectors as one npy file (N, D)."""
        rows = np.stack([item.numpy() for item in items])
        with atomic_file(path) as part, part.open("wb") as file:
            np.save(file, rows, allow_pickle=False)

    def pictures(self, x: Tensor) -> Tensor | None:
        """Bars from the middle, one for each number or several together. (B, 1, H, W) uint8"""
        values = x.float()
        if values.shape[1] > WIDTH:
            values = torch.nn.functional.adaptive_avg_pool1d(values.unsqueeze(1), WIDTH).squeeze(1)
        most = values.abs().amax(1, keepdim=True).clamp(min=1e-12)
        heights = (values / most * (HEIGHT // 2 - 1)).round()
        columns = torch.arange(WIDTH) * values.shape[1] // WIDTH
        bars = heights.cpu()[:, columns].unsqueeze(1)  # (B, 1, W)
        rows = (HEIGHT // 2 - torch.arange(HEIGHT)).view(1, HEIGHT, 1)
        ink = ((rows > 0) & (rows <= bars)) | ((rows < 0) & (rows >= bars)) | (rows == 0)
        return torch.where(ink, INK, PAPER).to(torch.uint8).unsqueeze(1)

    def media(self, x: Tensor) -> None:
        """Nothing: a vector is its picture."""


VECTOR = VectorModality()
