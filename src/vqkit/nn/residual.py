"""Residual blocks of convolutions."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn

Activation = Callable[[Tensor], Tensor]


class ResidualBlock(nn.Module):
    """Adds to its input what a 3x3 and a 1x1 convolution make of it, each behind an activation.

    Neural Discrete Representation Learning, section 4.1, https://arxiv.org/abs/1711.00937

    Args:
        channels: Channels C of input and output.
        hidden: Channels between the two convolutions.
        activation: What is before each of them.
    """

    def __init__(self, channels: int, hidden: int, *, activation: Activation = F.relu) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, hidden, 3, padding=1)
        self.narrow = nn.Conv2d(hidden, channels, 1)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to features (B, C, H, W)."""
        return x + self.narrow(self.activation(self.wide(self.activation(x))))


class ResidualStack(nn.Module):
    """Residual blocks one after another, and an activation at the end.

    Args:
        channels: Channels C of input and output.
        hidden: Channels inside the blocks.
        num_blocks: Number of blocks, at least 0.
        activation: The one of all blocks and of the end.
    """

    def __init__(
        self, channels: int, hidden: int, num_blocks: int, *, activation: Activation = F.relu
    ) -> None:
        super().__init__()
        self.blocks = nn.Sequential(
            *(ResidualBlock(channels, hidden, activation=activation) for _ in range(num_blocks))
        )
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to features (B, C, H, W)."""
        return self.activation(self.blocks(x))
