"""The config of an image autoencoder."""

from typing import Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.autoencoder.model import VQVAE
from vqkit.modalities.image.network import ConvConfig
from vqkit.modalities.image.objective import GaussianConfig, ObjectiveConfig
from vqkit.quantizers import EMAConfig, QuantizerConfig
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VQVAEConfig:
    """Encoder, quantizer, decoder and objective; by default as Sonnet's example for CIFAR-10."""

    channels: Literal[1, 3] = 3
    """Channels of the images: 1 grey, 3 colours."""
    network: ConvConfig = Field(default_factory=ConvConfig)
    """Encoder and decoder."""
    quantizer: QuantizerConfig = Field(default_factory=EMAConfig)
    """What turns vectors into codes."""
    objective: ObjectiveConfig = Field(default_factory=GaussianConfig)
    """What the decoder is trained for."""

    def build(self) -> VQVAE:
        """The model, with new weights drawn from torch's global generator."""
        objective = self.objective.build()
        return VQVAE(
            self.network.encoder(self.channels),
            self.quantizer.build(self.network.dim),
            self.network.decoder(objective.num_outputs(self.channels)),
            objective,
            config=self,
        )
