"""The config of an image autoencoder."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from pydantic.dataclasses import dataclass

from vqkit.modalities.base import Parts
from vqkit.modalities.image.data import ImageDataConfig
from vqkit.modalities.image.decoder import ConvDecoderConfig, DecoderConfig
from vqkit.modalities.image.first_weights import keep_variance
from vqkit.modalities.image.network import ConvConfig
from vqkit.modalities.image.objective import GaussianConfig, ObjectiveConfig
from vqkit.quantizers import EMAConfig, QuantizerConfig
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageModelConfig:
    """Encoder, quantizer, decoder and objective; by default as Sonnet's example for CIFAR-10."""

    type: Literal["image"] = "image"
    """The kind of data."""
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

    @property
    def hides_levels(self) -> bool:
        """Whether the decoder learns to do without the finer levels."""
        return self.network.level_dropout > 0

    def quantizer_key(self, level: int) -> str:
        """The key of the quantizer of a level, for messages."""
        return "model.quantizer" if self.quantizers is None else f"model.quantizers.{level}"

    def fitted(self, shape: Sequence[int]) -> Self:
        """The config itself: it says all that there is to know of images."""
        return self

    def parts(self) -> Parts:
        """Everything the model is made of, with new weights from torch's global generator."""
        objective, encoder = self.objective.build(), self.network.encoder(self.channels)
        if self.decoder.type != "conv":
            keep_variance(encoder)
        quantizers = [quantizer.build(self.network.dim) for quantizer in self.level_quantizers]
        outputs = objective.num_outputs(self.channels)
        decoder = self.decoder.build(self.network, self.channels, outputs)
        return Parts(encoder, quantizers, decoder, objective, self.network.top_down())

    def check_data(self, data: Any) -> None:
        """Raises ValueError unless images of these settings go through the network.

        Args:
            data: An ``ImageDataConfig``.
        """
        assert isinstance(data, ImageDataConfig)
        size = data.size
        if data.channels != self.channels:
            both = f"data.channels is {data.channels}, model.channels {self.channels}"
            raise ValueError(f"{both}; make them equal")
        network, lengths = self.network, [size] if isinstance(size, int) else size or []
        side = network.strides[0]
        if any(length % side for length in lengths):
            whose = "" if network.levels == 1 else " of the coarsest level"
            code = f"one code{whose} stands for {side} x {side} pixels"
            raise ValueError(f"data.size is {size}, but {code}; make it multiples of {side}")
