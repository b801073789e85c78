"""Blocks that know no modality."""

from vqkit.nn.autoregressive import AutoregressiveDecoder
from vqkit.nn.residual import ResidualBlock, ResidualStack

__all__ = ["AutoregressiveDecoder", "ResidualBlock", "ResidualStack"]
