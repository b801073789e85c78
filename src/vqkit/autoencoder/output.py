"""What a forward pass of the autoencoder gives."""

from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.autoencoder.distribution import Distribution
from vqkit.codes import Codes
from vqkit.means import Mean


@dataclass(frozen=True, slots=True)
class Output:
    """Reconstruction, codes and every part of the loss by name.

    Attributes:
        distribution: What the decoder says of each item.
        codes: The codes of each item.
        objectives: Parts of the loss by name, weighted; the loss is the sum of their values.
        terms: The quantizers' unweighted parts by name, for logs.
        z_e: What was quantized, for each level. Each (B, *grid, D)
        masks: True where that is real. Each (B, *grid) bool, or None when all is
        coded: Which integers stand for something, see ``Quantized``. Each (B, *grid, Q) or None
    """

    distribution: Distribution
    codes: Codes
    objectives: dict[str, Mean]
    terms: dict[str, Mean]
    z_e: tuple[Tensor, ...]
    masks: tuple[Tensor | None, ...]
    coded: tuple[Tensor | None, ...]

    @property
    def loss(self) -> Tensor:
        """What to minimise when a step is one forward pass of one process. ()"""
        return torch.stack([mean.value for mean in self.objectives.values()]).sum()

    @property
    def reconstruction(self) -> Tensor:
        """The most probable items. (B, C, *grid)"""
        return self.distribution.mode()
