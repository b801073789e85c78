"""Residual blocks of convolutions."""

import torch.nn.functional as F
from torch import Tensor, nn


class ResidualBlock(nn.Module):
    """Adds to its input what a 3x3 and a 1x1 convolution make of it, each behind a ReLU.

    Neural Discrete Representation Learning, section 4.1, https://arxiv.org/abs/1711.00937

    Args:
        channels: Channels C of input and output.
        hidden: Channels between the two convolutions.
    """

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.wide = nn.Conv2d(channels, hidden, 3, padding=1)
        self.narrow = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to features (B, C, H, W)."""
        return x + self.narrow(F.relu(self.wide(F.relu(x))))


class ResidualStack(nn.Module):
    """Residual blocks one after another, and a ReLU at the end.

    Args:
        channels: Channels C of input and output.
        hidden: Channels inside the blocks.
        num_blocks: Number of blocks, at least 0.
    """

    def __init__(self, channels: int, hidden: int, num_blocks: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(ResidualBlock(channels, hidden) for _ in range(num_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, H, W) to features (B, C, H, W)."""
        return F.relu(self.blocks(x))
