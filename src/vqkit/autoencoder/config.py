"""The config of an image autoencoder."""

from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from vqkit.autoencoder.model import VQVAE
from vqkit.modalities.image.decoder import ConvDecoderConfig, DecoderConfig
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
    decoder: DecoderConfig = Field(default_factory=ConvDecoderConfig)
    """What decodes: all pixels at once (conv), or one after another."""
    objective: ObjectiveConfig = Field(default_factory=GaussianConfig)
    """What the decoder is trained for."""

    @model_validator(mode="after")
    def _claims_a_likelihood(self) -> Self:
        if self.decoder.type != "conv" and self.objective.type == "gaussian":
            raise ValueError(
                f"decoder.type is {self.decoder.type}, which predicts one pixel after another and "
                "needs a likelihood of each; set objective.type=logistic_mixture"
            )
        return self

    def build(self) -> VQVAE:
        """The model, with new weights drawn from torch's global generator."""
        objective = self.objective.build()
        return VQVAE(
            self.network.encoder(self.channels),
            self.quantizer.build(self.network.dim),
            self.decoder.build(self.network, self.channels, objective.num_outputs(self.channels)),
            objective,
            config=self,
        )
