"""How far reconstructions are from vectors, over a whole split."""

import torch
from torch import Tensor

from vqkit.distributed import all_reduce


class VectorMetrics:
    """Mean squared error and explained variance, in the units of the data.

    Kept as float64 totals: the figures depend neither on the batches nor on the ranks.

    Args:
        device: Where the vectors are.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.sums: Tensor | None = None  # of errors, values and squares; each (D,)
        self.count = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, x: Tensor, reconstruction: Tensor, mask: Tensor | None = None) -> None:
        """Counts a batch in.

        Args:
            x: Vectors. (B, D)
            reconstruction: The model's. (B, D)
            mask: True where a vector is real; None when all are. (B,) bool
        """
        x, found = x.double(), reconstruction.double()
        if mask is not None:
            x, found = x[mask], found[mask]
        if self.sums is None:
            self.sums = torch.zeros(3, x.shape[1], dtype=torch.float64, device=self.device)
        parts = (x - found).square(), x, x.square()
        self.sums += torch.stack([part.sum(0) for part in parts])
        self.count += len(x)

    def results(self) -> dict[str, float]:
        """The figures over all batches of all ranks; every rank must call it.

        Returns:
            ``mse``, a mean over all numbers; ``variance``, the mean over columns of that of a
            column; ``mse_over_variance`` and ``explained_variance``, 1 less that, unless nothing
            varies. Empty when there was nothing.
        """
        if self.sums is None:
            return {}
        error, total, squares = all_reduce(self.sums.clone()) / all_reduce(self.count.clone())
        mse, variance = float(error.mean()), float((squares - total.square()).clamp(min=0).mean())
        found = {"mse": mse, "variance": variance}
        if variance > 0:
            found |= {"mse_over_variance": mse / variance, "explained_variance": 1 - mse / variance}
        return found
