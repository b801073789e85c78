"""The config of an image autoencoder."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from vqkit.autoencoder.model import VQVAE
from vqkit.modalities.image.decoder import ConvDecoderConfig, DecoderConfig
from vqkit.modalities.image.first_weights import keep_variance
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
    """What turns vectors into codes, at each level."""
    quantizers: Annotated[tuple[QuantizerConfig, ...], Field(min_length=1)] | None = None
    """One for each level, coarsest first, in place of quantizer. null: quantizer for all levels."""
    decoder: DecoderConfig = Field(default_factory=ConvDecoderConfig)
    """What decodes: all pixels at once (conv), or one after another."""
    objective: ObjectiveConfig = Field(default_factory=GaussianConfig)
    """What the decoder is trained for."""

    @model_validator(mode="after")
    def _one_for_each_level(self) -> Self:
        levels, given = self.network.levels, len(self.level_quantizers)
        if given != levels:
            have = f"model.quantizers has {given} for the {levels} of model.network.levels"
            raise ValueError(f"{have}; give one for each level, coarsest first, or null")
        return self

    @model_validator(mode="after")
    def _claims_a_likelihood(self) -> Self:
        if self.decoder.type != "conv" and self.objective.type == "gaussian":
            raise ValueError(
                f"decoder.type is {self.decoder.type}, which predicts one pixel after another and "
                "needs a likelihood of each; set objective.type=logistic_mixture"
            )
        return self

    @property
    def level_quantizers(self) -> tuple[QuantizerConfig, ...]:
        """The quantizer of each level, coarsest first."""
        return self.quantizers or (self.quantizer,) * self.network.levels

    def build(self) -> VQVAE:
        """The model, with new weights drawn from torch's global generator."""
        objective, encoder = self.objective.build(), self.network.encoder(self.channels)
        if self.decoder.type != "conv":
            keep_variance(encoder)
        return VQVAE(
            encoder,
            [quantizer.build(self.network.dim) for quantizer in self.level_quantizers],
            self.decoder.build(self.network, self.channels, objective.num_outputs(self.channels)),
            objective,
            top_down=self.network.top_down(),
            config=self,
        )
