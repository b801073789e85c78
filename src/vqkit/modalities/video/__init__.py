"""Clips: networks, objective, data and metrics."""

from vqkit.modalities.video.data import VideoDataConfig, VideoExamples
from vqkit.modalities.video.metrics import VideoMetrics
from vqkit.modalities.video.modality import VideoModality
from vqkit.modalities.video.model import VideoModelConfig
from vqkit.modalities.video.network import CausalVideoConfig, VideoDecoder, VideoEncoder
from vqkit.modalities.video.objective import VideoObjective

__all__ = [
    "CausalVideoConfig",
    "VideoDataConfig",
    "VideoDecoder",
    "VideoEncoder",
    "VideoExamples",
    "VideoMetrics",
    "VideoModality",
    "VideoModelConfig",
    "VideoObjective",
]
