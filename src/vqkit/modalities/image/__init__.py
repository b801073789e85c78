"""Images: networks, objectives, data and metrics."""

from vqkit.modalities.image.hierarchy import LevelsDecoder, LevelsEncoder
from vqkit.modalities.image.network import ConvConfig, ConvDecoder, ConvEncoder
from vqkit.modalities.image.objective import (
    GaussianConfig,
    GaussianObjective,
    LogisticMixtureConfig,
    LogisticMixtureObjective,
    ObjectiveConfig,
)

__all__ = [
    "ConvConfig",
    "ConvDecoder",
    "ConvEncoder",
    "GaussianConfig",
    "GaussianObjective",
    "LevelsDecoder",
    "LevelsEncoder",
    "LogisticMixtureConfig",
    "LogisticMixtureObjective",
    "ObjectiveConfig",
]
