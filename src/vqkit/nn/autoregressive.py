"""What a decoder must offer that gives each position of an item after those before it."""

from abc import ABC, abstractmethod
from typing import Protocol

from torch import Tensor, nn


class Stepper(Protocol):
    """One position after another, each computed from what the others before it left."""

    def step(self, previous: Tensor | None) -> Tensor:
        """The outputs at the next position in raster order.

        Args:
            previous: The values at the position before; anything at the first. (B, C)

        Returns:
            As ``AutoregressiveDecoder.outputs`` gives them there. (B, O)
        """
        ...


class AutoregressiveDecoder(nn.Module, ABC):
    """A decoder whose outputs at a position know the codes and the item before that position.

    p(x | z) is then a product over the positions in raster order. The objective says what the
    outputs at one position mean; its loss must be the negative log-likelihood in nats.
    """

    @abstractmethod
    def forward(self, *z_q: Tensor) -> Tensor:
        """What the codes say to each position.

        Args:
            z_q: The quantized vectors of each level, coarsest first. Each (B, D, *code grid)

        Returns:
            Features h. (B, F, *grid)
        """

    @abstractmethod
    def outputs(self, h: Tensor, x: Tensor) -> Tensor:
        """All positions at once, when the item is known.

        Args:
            h: What ``forward`` gave. (B, F, *grid)
            x: Normalised items, 0 where nothing is real. (B, C, *grid)

        Returns:
            What the objective reads; that at a position depends on x strictly before it in raster
            order, and on h. (B, O, *grid)
        """

    @abstractmethod
    def stepper(self, h: Tensor) -> Stepper:
        """Computes the same one position after another, without dropout.

        Args:
            h: What ``forward`` gave. (B, F, *grid)
        """
