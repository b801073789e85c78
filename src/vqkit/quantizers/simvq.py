"""SimVQ: one linear map moves all entries at once."""

from typing import Literal

import torch
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.quantizers.codebook import Codebook, Metric, Mover
from vqkit.quantizers.learned import NearestOptions
from vqkit.quantizers.start import Start
from vqkit.quantizers.vector import VectorQuantizer
from vqkit.schema import STRICT

RIDGE = 1e-3  # of the mean squared singular value: where the map has shrunk to less than 3 %
REFINEMENTS = 3


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SimVQConfig(NearestOptions):
    """Entries that keep their places to each other, moved by one linear map."""

    type: Literal["simvq"] = "simvq"

    def build(self, dim: int) -> "SimVQuantizer":
        """The quantizer for vectors of length ``dim``."""
        return SimVQuantizer(dim, self.codebook_size, **self.options())


class LinearCodebook(Codebook):
    """Entries that stay, and a linear map that gradients move: the table is entries @ weight.

    Args:
        size: Number of entries K.
        dim: Length D of each entry.
        metric: See ``Codebook``.
        start: See ``Codebook``.

    Attributes:
        weight: The map, at first the identity. (D, D)
    """

    def __init__(
        self, size: int, dim: int, *, metric: Metric = "euclidean", start: Start = "kmeans"
    ) -> None:
        super().__init__(size, dim, metric=metric, start=start)
        self.weight = nn.Parameter(torch.eye(dim, dtype=torch.float32))

    def table_of(self, entries: Tensor) -> Tensor:
        with torch.autocast(self.weight.device.type, enabled=False):
            # A copy, because ``revive`` writes to them before a backward pass has read them.
            weight = self.weight.detach() if self.stays else self.weight
            return self.placed(entries.detach().clone() @ weight)

    def claim(self, mover: Mover) -> None:
        super().claim(mover)
        self.entries.requires_grad_(False)

    def freeze(self, frozen: bool = True) -> None:
        super().freeze(frozen)
        if frozen:
            self.weight.grad = None
        self.entries.requires_grad_(False)
        self.weight.requires_grad_(not frozen)

    def state_of_given(self) -> dict[str, Tensor]:
        return super().state_of_given() | {
            "weight": torch.eye(len(self.weight), device=self.weight.device)
        }

    def rows_for(self, vectors: Tensor) -> Tensor:
        """Rows whose image is each vector, or near it where the map has almost lost a direction.

        By Tikhonov regularisation, refined a few times: the exact rows of such directions would
        be so long that the next step of the map throws all entries about.
        """
        with torch.autocast(self.weight.device.type, enabled=False):
            square = self.weight @ self.weight.T
            square.diagonal().add_(RIDGE * square.diagonal().mean())
            rows = torch.zeros_like(vectors)
            for _ in range(REFINEMENTS):
                left = (vectors - rows @ self.weight) @ self.weight.T
                # Without a check for singular maps, for which a GPU would have to be waited.
                rows = rows + torch.linalg.solve_ex(square, left.T).result.T
        return rows

    def set_table(self, table: Tensor) -> None:
        self.weight.copy_(torch.eye(len(self.weight)))
        super().set_table(table)


class SimVQuantizer(VectorQuantizer):
    """A codebook trained by gradient through one linear map of all its entries.

    Addressing Representation Collapse in Vector Quantized Models with One Linear Layer, equation
    6, https://arxiv.org/abs/2411.02038: an entry that nobody uses moves with the others. The fixed
    entries start from data here; the paper's are random (``start="normal"``).

    Arguments as for ``VectorQuantizer``; a shared ``codebook`` is a ``LinearCodebook``.
    """

    codebook_type = LinearCodebook
