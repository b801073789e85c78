"""Blocks that know no modality."""

from vqkit.nn.residual import ResidualBlock, ResidualStack

__all__ = ["ResidualBlock", "ResidualStack"]
