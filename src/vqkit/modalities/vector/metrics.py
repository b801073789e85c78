"""How far reconstructions are from vectors, over a whole split."""

import torch
from torch import Tensor

from vqkit.distributed import all_gather, all_reduce
from vqkit.modalities.vector.moments import Moments


class VectorMetrics:
    """Mean squared error and explained variance, in the units of the data.

    Kept as float64 totals: the figures depend neither on the batches nor on the ranks.

    Args:
        device: Where the vectors are.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self.device = device
        self.moments: Moments | None = None  # of the vectors; None before the first
        self.errors = torch.zeros((), dtype=torch.float64, device=device)

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
        if self.moments is None:
            self.moments = Moments(x.shape[1], self.device)
        self.moments.add(x)
        self.errors += (x - found).square().sum()

    def results(self) -> dict[str, float]:
        """The figures over all batches of all ranks; every rank must call it.

        Returns:
            ``mse``, a mean over all numbers; ``variance``, the mean over columns of that of a
            column; ``mse_over_variance`` and ``explained_variance``, 1 less that, unless nothing
            varies. Empty when there was nothing.
        """
        own = 0 if self.moments is None else len(self.moments.mean)
        dim = int(all_gather(torch.tensor(own, device=self.device)).amax())
        moments = self.moments or Moments(dim, self.device)
        count, _, variances = moments.joined()
        errors = all_reduce(self.errors.clone())
        if not count:
            return {}
        mse, variance = float(errors / (count * dim)), float(variances.mean())
        found = {"mse": mse, "variance": variance}
        if variance > 0:
            found |= {"mse_over_variance": mse / variance, "explained_variance": 1 - mse / variance}
        return found
