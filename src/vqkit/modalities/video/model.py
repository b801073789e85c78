"""The config of an autoencoder of clips."""

from typing import Any, Literal

from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.modalities.base import OneLevel, Parts
from vqkit.modalities.video.data import Rate, VideoDataConfig
from vqkit.modalities.video.modality import VideoModality
from vqkit.modalities.video.network import CausalVideoConfig
from vqkit.modalities.video.objective import GaussianConfig, VideoObjective
from vqkit.quantizers import EMAConfig, QuantizerConfig
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VideoModelConfig(OneLevel):
    """Causal encoder, quantizer and causal decoder of clips."""

    type: Literal["video"] = "video"
    """The kind of data."""
    channels: Literal[1, 3] = 3
    """Channels of the frames, those of the data: 1 grey, 3 colours."""
    fps: Rate = 8.0
    """Frames for each second, when clips are played; that of the data where they have one."""
    network: CausalVideoConfig = Field(default_factory=CausalVideoConfig)
    """Encoder and decoder."""
    quantizer: QuantizerConfig = Field(default_factory=lambda: EMAConfig(codebook_size=1024))
    """What turns vectors into codes."""
    objective: GaussianConfig = GaussianConfig()
    """What the decoder is trained for."""

    def check_data(self, data: Any) -> None:
        """Raises ValueError unless clips of these settings go through the network.

        Args:
            data: A ``VideoDataConfig``.
        """
        assert isinstance(data, VideoDataConfig)
        for key in ("channels", "fps"):
            ours, theirs = getattr(self, key), getattr(data, key)
            if theirs is not None and ours != theirs:
                raise ValueError(f"data.{key} is {theirs}, model.{key} {ours}; make them equal")
        side, size = self.network.side, data.size
        lengths = [size] if isinstance(size, int) else size or []
        if any(length % side for length in lengths):
            code = f"one code stands for {side} x {side} pixels"
            raise ValueError(f"data.size is {size}, but {code}; make it multiples of {side}")

    def parts(self) -> Parts:
        """Everything the model is made of, with new weights from torch's global generator."""
        network, channels = self.network, self.channels
        encoder, decoder = network.encoder(channels), network.decoder(channels)
        objective = VideoObjective(VideoModality(self.fps, channels))
        return Parts(encoder, [self.quantizer.build(network.dim)], decoder, objective)
