"""What decodes: all pixels at once, or one after another."""

from typing import Annotated, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import nn

from vqkit.modalities.image.network import ConvConfig
from vqkit.modalities.image.pixelcnn import PixelCNNDecoderConfig
from vqkit.modalities.image.transformer import TransformerDecoderConfig
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ConvDecoderConfig:
    """All pixels at once: the mirror image of the encoder."""

    type: Literal["conv"] = "conv"

    def build(self, network: ConvConfig, channels: int, outputs: int) -> nn.Module:
        """The decoder of images to so many numbers for each pixel."""
        return network.decoder(outputs)


DecoderConfig = Annotated[
    ConvDecoderConfig | PixelCNNDecoderConfig | TransformerDecoderConfig,
    Field(discriminator="type"),
]
