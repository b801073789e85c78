"""A decoder that draws pixel after pixel: a causal Transformer that the codes condition."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.modalities.image.first_weights import keep_variance
from vqkit.modalities.image.levels import snap
from vqkit.modalities.image.network import ConvConfig
from vqkit.nn.autoregressive import AutoregressiveDecoder
from vqkit.nn.positions import grid_positions
from vqkit.nn.transformer import Transformer
from vqkit.schema import STRICT, Heads


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TransformerDecoderConfig:
    """A causal Transformer over the pixels, conditioned on the codes."""

    type: Literal["transformer"] = "transformer"
    width: Annotated[int, Field(ge=1)] = 128
    """Length of the vectors between the blocks."""
    layers: Annotated[int, Field(ge=1)] = 4
    """Number of blocks."""
    heads: Heads = 4
    """Number of attention heads; divides the width."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping an element in training."""

    def build(self, network: ConvConfig, channels: int, outputs: int) -> "TransformerDecoder":
        """The decoder of images of so many channels to so many numbers for each pixel."""
        return TransformerDecoder(channels, outputs, network, self)


class TransformerDecoder(AutoregressiveDecoder):
    """What is said of a pixel, from the codes and the pixels before it in raster order.

    Image Transformer, https://arxiv.org/abs/1802.05751, with a pixel for a position, attention to
    all pixels before, and the codes of the image. The vector of a position is the sum of the pixel
    before it, of its place and of what the codes say to it.

    Args:
        channels: Channels C of the images.
        outputs: Numbers O for each pixel, as many as the objective asks for.
        network: Widths and depth of what brings the codes to the size of the image.
        config: Widths and depth of the Transformer.
    """

    def __init__(
        self, channels: int, outputs: int, network: ConvConfig, config: TransformerDecoderConfig
    ) -> None:
        super().__init__()
        self.upsample = network.decoder(config.width)
        keep_variance(self.upsample)
        self.pixel = nn.Linear(channels, config.width)
        self.begin = nn.Parameter(torch.zeros(config.width))
        self.transformer = Transformer(
            config.width, num_layers=config.layers, heads=config.heads, dropout=config.dropout
        )
        self.head = nn.Linear(config.width, outputs)

    def forward(self, *z_q: Tensor) -> Tensor:
        """Vectors (B, D, h, w) to what they say to each pixel, (B, F, H, W)."""
        return self.upsample(*z_q)

    def outputs(self, h: Tensor, x: Tensor) -> Tensor:
        earlier = self.embed(x.flatten(2).mT[:, :-1])
        begin = self.begin.to(earlier.dtype).expand(len(x), 1, -1)
        placed = torch.cat([begin, earlier], dim=1) + self.placed(h)
        return self.head(self.transformer(placed)).mT.unflatten(2, x.shape[2:])

    def stepper(self, h: Tensor) -> "TransformerStepper":
        return TransformerStepper(self, h.detach().to(self.begin.dtype))

    def embed(self, pixels: Tensor) -> Tensor:
        """Vectors of pixels, read as their nearest grey levels: (..., C) to (..., D)."""
        return self.pixel(snap(pixels).to(self.begin.dtype))

    def placed(self, h: Tensor) -> Tensor:
        """What the codes say to each pixel, with its place: (B, D, H, W) to (B, H W, D)."""
        height, width = h.shape[2:]
        return h.flatten(2).mT + grid_positions(height, width, h.shape[1], like=h)


class TransformerStepper:
    """The decoder pixel after pixel.

    Args:
        decoder: Whose weights are used.
        h: What the codes say to each pixel. (B, D, H, W)
    """

    @torch.no_grad()
    def __init__(self, decoder: TransformerDecoder, h: Tensor) -> None:
        self.decoder, self.placed = decoder, decoder.placed(h)
        self.cache = decoder.transformer.cache(len(h), self.placed.shape[1])

    @torch.no_grad()
    def step(self, previous: Tensor | None) -> Tensor:
        """See ``Stepper``; the values of a pixel (B, C) to its numbers (B, O)."""
        position = self.cache.length
        before = self.decoder.begin
        if position and previous is not None:
            before = self.decoder.embed(previous)
        x = before + self.placed[:, position]
        return self.decoder.head(self.decoder.transformer.step(x, self.cache))
