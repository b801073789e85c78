"""The config of an autoencoder of sound."""

from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.modalities.audio.data import AudioDataConfig, SampleRate
from vqkit.modalities.audio.network import CausalConfig
from vqkit.modalities.audio.objective import SpectralConfig
from vqkit.modalities.base import OneLevel, Parts
from vqkit.quantizers import EMAConfig, QuantizerConfig, ResidualConfig
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AudioModelConfig(OneLevel):
    """Causal encoder, residual quantizer and causal decoder of sound."""

    type: Literal["audio"] = "audio"
    """The kind of data."""
    sample_rate: SampleRate = 24_000
    """Samples per second, those of the data."""
    channels: Literal[1, 2] = 1
    """Channels, those of the data."""
    network: CausalConfig = Field(default_factory=CausalConfig)
    """Encoder and decoder."""
    quantizer: QuantizerConfig = Field(
        default_factory=lambda: ResidualConfig(
            quantizer=EMAConfig(codebook_size=1024), stages=8, dropout=0.5
        )
    )
    """What turns vectors into codes."""
    objective: SpectralConfig = SpectralConfig()
    """What the decoder is trained for."""

    def check_data(self, data: Any) -> None:
        """Raises ValueError unless recordings of these settings go through the network.

        Args:
            data: An ``AudioDataConfig``.
        """
        assert isinstance(data, AudioDataConfig)
        for key in ("sample_rate", "channels"):
            ours, theirs = getattr(self, key), getattr(data, key)
            if ours != theirs:
                raise ValueError(f"data.{key} is {theirs}, model.{key} {ours}; make them equal")

    def parts(self) -> Parts:
        """Everything the model is made of, with new weights from torch's global generator."""
        network, channels = self.network, self.channels
        encoder, decoder = network.encoder(channels), network.decoder(channels)
        objective = self.objective.build(self.sample_rate, channels)
        return Parts(encoder, [self.quantizer.build(network.dim)], decoder, objective)
