"""Encoder and decoder of vectors: fully connected layers, or nothing at all."""

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from vqkit.schema import STRICT

ACTIVATIONS = {"relu": nn.ReLU, "silu": nn.SiLU, "tanh": nn.Tanh}
Width = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MLPConfig:
    """Fully connected layers, and their mirror image."""

    type: Literal["mlp"] = "mlp"
    hidden: tuple[Width, ...] = (128,)
    """Widths between the vectors and the codes, those nearest to the vectors first; the decoder
    has them in reverse."""
    dim: Annotated[int, Field(ge=1)] = 64
    """Length D of the vectors that are quantized."""
    activation: Literal["relu", "silu", "tanh"] = "relu"
    """What is between two layers."""

    def coded(self, dim: int) -> int:
        """The length of what is quantized, of vectors of so many numbers."""
        return self.dim

    def encoder(self, dim: int) -> nn.Module:
        """From vectors (B, dim) to (B, D)."""
        return layers((dim, *self.hidden, self.dim), ACTIVATIONS[self.activation])

    def decoder(self, dim: int) -> nn.Module:
        """From (B, D) to vectors (B, dim)."""
        return layers((self.dim, *reversed(self.hidden), dim), ACTIVATIONS[self.activation])


@dataclass(frozen=True, kw_only=True, config=STRICT)
class IdentityConfig:
    """No network: the vectors themselves are quantized."""

    type: Literal["none"] = "none"

    def coded(self, dim: int) -> int:
        """The length of what is quantized: that of the vectors."""
        return dim

    def encoder(self, dim: int) -> nn.Module:
        """Vectors as they are."""
        return nn.Identity()

    def decoder(self, dim: int) -> nn.Module:
        """Vectors as they are."""
        return nn.Identity()


NetworkConfig = Annotated[MLPConfig | IdentityConfig, Field(discriminator="type")]


def layers(widths: tuple[int, ...], activation: type[nn.Module]) -> nn.Sequential:
    """Linear maps with an activation between them, first weights as Glorot and Bengio's.

    Understanding the difficulty of training deep feedforward neural networks, equation 16,
    https://proceedings.mlr.press/v9/glorot10a.html; biases start at 0.

    Args:
        widths: Of the input, between the maps, and of the output.
        activation: What is between two maps.
    """
    modules: list[nn.Module] = []
    for before, after in pairwise(widths):
        linear = nn.Linear(before, after)
        nn.init.xavier_uniform_(linear.weight)
        nn.init.zeros_(linear.bias)
        modules += [linear, activation()]
    return nn.Sequential(*modules[:-1])
