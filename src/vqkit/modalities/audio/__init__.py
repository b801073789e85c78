"""Sound: networks, objective, data and metrics."""

from vqkit.modalities.audio.data import AudioDataConfig, AudioExamples
from vqkit.modalities.audio.metrics import AudioMetrics
from vqkit.modalities.audio.modality import AudioModality
from vqkit.modalities.audio.model import AudioModelConfig
from vqkit.modalities.audio.network import AudioDecoder, AudioEncoder, CausalConfig
from vqkit.modalities.audio.objective import SpectralConfig, SpectralObjective

__all__ = [
    "AudioDataConfig",
    "AudioDecoder",
    "AudioEncoder",
    "AudioExamples",
    "AudioMetrics",
    "AudioModality",
    "AudioModelConfig",
    "CausalConfig",
    "SpectralConfig",
    "SpectralObjective",
]
