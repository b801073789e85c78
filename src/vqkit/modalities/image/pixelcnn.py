"""A decoder that draws pixel after pixel: a gated PixelCNN that the codes condition."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.modalities.image.first_weights import keep_variance
from vqkit.modalities.image.levels import snap
from vqkit.modalities.image.network import ConvConfig
from vqkit.nn.autoregressive import AutoregressiveDecoder
from vqkit.nn.pixelcnn import GatedPixelCNN
from vqkit.nn.pixelcnn_sampler import PixelCNNSampler
from vqkit.schema import STRICT, AttentionEvery, Heads


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PixelCNNDecoderConfig:
    """A gated PixelCNN over the pixels, conditioned on the codes."""

    type: Literal["pixelcnn"] = "pixelcnn"
    width: Annotated[int, Field(ge=1)] = 64
    """Channels of the two stacks, and of what the codes become for each pixel."""
    layers: Annotated[int, Field(ge=1)] = 6
    """Number of gated layers; each sees one pixel further."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping an element in training."""
    attention_every: AttentionEvery = None
    """After how many layers there is attention to all earlier pixels, each time. null: none."""
    heads: Heads = 4
    """Number of attention heads; divides the width where there is attention."""

    def build(self, network: ConvConfig, channels: int, outputs: int) -> "PixelCNNDecoder":
        """The decoder of images of so many channels to so many numbers for each pixel."""
        return PixelCNNDecoder(channels, outputs, network, self)


class PixelCNNDecoder(AutoregressiveDecoder):
    """What is said of a pixel, from the codes and the pixels before it.

    Conditional Image Generation with PixelCNN Decoders, section 2.4 and equation 5,
    https://arxiv.org/abs/1606.05328, here with the codes of the image.

    Args:
        channels: Channels C of the images.
        outputs: Numbers O for each pixel, as many as the objective asks for.
        network: Widths and depth of what brings the codes to the size of the image.
        config: Widths and depth of the PixelCNN.
    """

    def __init__(
        self, channels: int, outputs: int, network: ConvConfig, config: PixelCNNDecoderConfig
    ) -> None:
        super().__init__()
        self.upsample = network.decoder(config.width)
        keep_variance(self.upsample)
        self.network = GatedPixelCNN(
            channels + 1,
            config.width,
            num_layers=config.layers,
            dropout=config.dropout,
            attention_every=config.attention_every,
            heads=config.heads,
            condition_channels=config.width,
        )
        self.head = nn.Conv2d(config.width, outputs, 1)

    def forward(self, *z_q: Tensor) -> Tensor:
        """Vectors (B, D, h, w) to what they say to each pixel, (B, F, H, W)."""
        return self.upsample(*z_q)

    def outputs(self, h: Tensor, x: Tensor) -> Tensor:
        return self.head(self.network(levels_read(x, self.head.weight), h))

    def stepper(self, h: Tensor) -> "PixelCNNStepper":
        return PixelCNNStepper(self, h.detach().to(self.head.weight.dtype))


class PixelCNNStepper:
    """The decoder pixel after pixel.

    Args:
        decoder: Whose weights are used.
        h: What the codes say to each pixel. (B, F, H, W)
    """

    def __init__(self, decoder: PixelCNNDecoder, h: Tensor) -> None:
        batch, _, height, width = h.shape
        self.sampler: PixelCNNSampler = decoder.network.sampler(batch, height, width, h)
        self.weight, self.bias = decoder.head.weight.flatten(1), decoder.head.bias

    @torch.no_grad()
    def step(self, previous: Tensor | None) -> Tensor:
        """See ``Stepper``; the values of a pixel (B, C) to its numbers (B, O)."""
        read = None if previous is None else levels_read(previous, self.weight)
        return nn.functional.linear(self.sampler.step(read), self.weight, self.bias)


def levels_read(x: Tensor, like: Tensor) -> Tensor:
    """The nearest grey levels, and a 1 that tells pixels from what is outside of the image.

    Args:
        x: Values of pixels. (B, C, *grid) in [-1, 1]
        like: Says the type.

    Returns:
        (B, C + 1, *grid)
    """
    levels = snap(x).to(like.dtype)  # what is said of a pixel must depend on levels alone
    return torch.cat([levels, torch.ones_like(levels[:, :1])], dim=1)
