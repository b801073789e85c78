"""First weights under which codes are heard."""

import math

import torch
from torch import nn

from vqkit.nn.residual import ResidualBlock

NEAR_NOTHING = 0.1
"""What a residual block's last weights are multiplied by at the start."""


@torch.no_grad()
def keep_variance(network: nn.Module) -> None:
    """New weights under which features vary about as much at any depth, and no biases.

    With torch's usual ones what varies shrinks in every layer and the biases stay: the vectors of
    coarse levels, or those that a decoder reads beside earlier pixels, would hardly differ at the
    start, and the decoder would learn to do without them. Residual blocks begin near the identity.

    Delving Deep into Rectifiers, equation 10, https://arxiv.org/abs/1502.01852

    Args:
        network: Whose convolutions are drawn anew, from torch's global generator.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            taps = math.prod(module.kernel_size)
            if isinstance(module, nn.ConvTranspose2d):
                taps //= math.prod(module.stride)  # an output sees these alone
            module.weight.normal_(std=math.sqrt(2 / (module.in_channels * taps)))
            module.bias.zero_()
    for block in network.modules():
        if isinstance(block, ResidualBlock):
            block.narrow.weight *= NEAR_NOTHING
