"""What a decoder says of its items, whether all at once or position after position."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from vqkit import random
from vqkit.autoencoder.distribution import Distribution, Objective, checked_outputs
from vqkit.codes import Codes
from vqkit.nn.autoregressive import AutoregressiveDecoder
from vqkit.nn.evaluating import evaluating

if TYPE_CHECKING:
    from vqkit.autoencoder.model import VQVAE


@dataclass(frozen=True, slots=True, eq=False)
class Decoded:
    """What a decoder made of quantized vectors, and what that means.

    Attributes:
        decoder: That made it.
        objective: What gives it its meaning.
        h: The outputs; features if the decoder is autoregressive. (B, O or F, *grid)
    """

    decoder: nn.Module
    objective: Objective
    h: Tensor

    def outputs(self, x: Tensor) -> Tensor:
        """What the objective reads, for items x (B, C, *grid). (B, O, *grid)

        Raises:
            ValueError: If it has another shape than the objective reads.
        """
        if isinstance(self.decoder, AutoregressiveDecoder):
            return checked_outputs(self.decoder.outputs(self.h, x), x, self.objective)
        return checked_outputs(self.h, x, self.objective)

    def distribution(self, outputs: Tensor | None = None) -> Distribution:
        """What is said of the items; by these outputs (B, O, *grid) if they are known."""
        if isinstance(self.decoder, AutoregressiveDecoder):
            return Autoregressive(self.h, self.decoder, self.objective)
        return self.objective.distribution(self.h if outputs is None else outputs)


@dataclass(frozen=True, slots=True, eq=False)
class Autoregressive:
    """The product of what a decoder says of each position, given the positions before it.

    Nothing is computed before it is asked for, and always as in evaluation.

    Attributes:
        h: What the codes say to each position. (B, F, *grid)
        decoder: That reads it, and the item so far.
        objective: Says what the decoder's outputs at a position mean.
    """

    h: Tensor
    decoder: AutoregressiveDecoder
    objective: Objective

    def log_prob(self, x: Tensor) -> Tensor:
        """Log-probability of each item in nats, from one pass over all positions.

        Args:
            x: Items, as ``Objective.normalize`` gives them. (B, C, *grid)

        Returns:
            Sums over the values of an item. (B,)

        Raises:
            ValueError: If no likelihood is claimed, or the decoder does not fit the objective.
        """
        with evaluating(self.decoder):
            outputs = self.decoder.outputs(self.h, self.objective.normalize(x))
        return self.objective.distribution(checked_outputs(outputs, x, self.objective)).log_prob(x)

    def mode(self) -> Tensor:
        """The most probable values of each position, given those chosen before it.

        One position after another; the most probable item as a whole is not known.

        Returns:
            Items. (B, C, *grid)
        """
        return self.drawn(lambda distribution, position: distribution.mode())

    def sample(self, seed: int, first: int = 0) -> Tensor:
        """Items, drawn position after position, of which item i depends on (seed, first + i).

        Args:
            seed: Any integer.
            first: Number of the first item: draw many in parts by it.

        Returns:
            Items. (B, C, *grid)
        """
        return self.drawn(
            lambda distribution, position: distribution.sample(
                random.hash_int(seed, position), first
            )
        )

    @torch.no_grad()
    def drawn(self, choose: Callable[[Distribution, int], Tensor]) -> Tensor:
        """Items whose values at each position are chosen from what is said of it.

        Args:
            choose: From what is said of one position, and its number, to values (B, C, 1, ...).

        Returns:
            Items. (B, C, *grid)
        """
        grid = self.h.shape[2:]
        one = [1] * len(grid)
        values: list[Tensor] = []
        # A step is too small for a cast of its weights to pay.
        whole = torch.autocast(self.h.device.type, enabled=False)
        with evaluating(self.decoder), whole:
            stepper, previous = self.decoder.stepper(self.h), None
            for position in range(grid.numel()):
                outputs = stepper.step(previous).unflatten(1, (-1, *one))
                chosen = choose(self.objective.distribution(outputs), position)
                previous = chosen.flatten(1)
                values.append(previous)
        return torch.stack(values, dim=-1).unflatten(-1, grid)


@torch.no_grad()
def new_items(model: VQVAE, codes: Codes, *, seed: int, first: int = 0) -> Tensor:
    """Items of codes that no item had, as they shall be seen.

    Their mode; of an autoregressive decoder a draw, for its modes are flat.

    Args:
        model: Whose codes they are.
        codes: Such as a prior draws. B items
        seed: Of all draws; item i depends on (seed, first + i).
        first: Number of the first item.

    Returns:
        (B, C, *grid)
    """
    said = model.distribution(codes)
    return said.sample(seed, first) if isinstance(said, Autoregressive) else said.mode()
