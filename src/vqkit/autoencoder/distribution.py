"""What an objective and its distributions must offer; modalities have the classes."""

from collections.abc import Iterable
from typing import Protocol

from torch import Tensor

from vqkit.means import Mean
from vqkit.modalities.base import Modality


class Distribution(Protocol):
    """What a decoder says of its items."""

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of each item, in nats; of 8-bit data, integrated over each grey level.

        Args:
            x: Items, as ``Objective.normalize`` gives them. (B, C, *grid)

        Returns:
            Sums over the values of an item. (B,)

        Raises:
            ValueError: If no likelihood is claimed.
        """
        ...

    def mode(self) -> Tensor:
        """The most probable items. (B, C, *grid)"""
        ...

    def sample(self, seed: int, first: int = 0) -> Tensor:
        """Items, of which item i depends on (seed, first + i). (B, C, *grid)"""
        ...


class Objective(Protocol):
    """What a decoder is trained for; a module, whose state is saved with the model."""

    @property
    def modality(self) -> Modality:
        """What kind of data the items are."""
        ...

    @property
    def claims_likelihood(self) -> bool:
        """Whether the distributions' ``log_prob`` may be called."""
        ...

    def num_outputs(self, channels: int) -> int:
        """How many outputs the decoder has for items of that many channels."""
        ...

    def normalize(self, x: Tensor) -> Tensor:
        """Items as the data give them to items as the encoder reads them. (B, C, *grid)"""
        ...

    def distribution(self, outputs: Tensor) -> Distribution:
        """What the decoder's outputs (B, O, *grid) mean."""
        ...

    def loss(self, outputs: Tensor, x: Tensor, mask: Tensor | None) -> dict[str, Mean]:
        """Parts whose sum is the loss, each a mean over real values.

        Args:
            outputs: What the decoder gave. (B, O, *grid)
            x: Normalised items. (B, C, *grid)
            mask: True where x is real; None when all is. (B, *grid) bool
        """
        ...

    def observe(self, batches: Iterable[Tensor]) -> None:
        """Learns scales of the data before training; every rank must call it.

        Args:
            batches: Real values alone, normalised; each (B, C, *grid), or (N, C) if masked.
        """
        ...

    def calibrate(self, pairs: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fits what turns outputs into a likelihood, after training; every rank must call it.

        Args:
            pairs: Outputs (B, O, *grid) and the normalised items they stand for, or (N, O) and
                (N, C) of the real values if masked.
        """
        ...


def checked_outputs(outputs: Tensor, x: Tensor, objective: Objective) -> Tensor:
    """What a decoder gave (B, O, *grid) for items x (B, C, *grid).

    Raises:
        ValueError: If it has another shape than the objective reads.
    """
    shape = (len(x), objective.num_outputs(x.shape[1]), *x.shape[2:])
    if outputs.shape != shape:
        raise ValueError(
            f"the decoder gave {tuple(outputs.shape)} for items of shape {tuple(x.shape)}; let it "
            f"give {shape}, which the objective reads"
        )
    return outputs
