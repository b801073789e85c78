"""Images: networks, decoders, objectives, data and metrics."""

from vqkit.modalities.image.decoder import ConvDecoderConfig, DecoderConfig
from vqkit.modalities.image.hierarchy import LevelsDecoder, LevelsEncoder
from vqkit.modalities.image.modality import IMAGE, ImageModality
from vqkit.modalities.image.model import ImageModelConfig
from vqkit.modalities.image.network import ConvConfig, ConvDecoder, ConvEncoder
from vqkit.modalities.image.objective import (
    GaussianConfig,
    GaussianObjective,
    LogisticMixtureConfig,
    LogisticMixtureObjective,
    ObjectiveConfig,
)
from vqkit.modalities.image.pixelcnn import PixelCNNDecoder, PixelCNNDecoderConfig
from vqkit.modalities.image.transformer import TransformerDecoder, TransformerDecoderConfig

__all__ = [
    "IMAGE",
    "ConvConfig",
    "ConvDecoder",
    "ConvDecoderConfig",
    "ConvEncoder",
    "DecoderConfig",
    "GaussianConfig",
    "GaussianObjective",
    "ImageModality",
    "ImageModelConfig",
    "LevelsDecoder",
    "LevelsEncoder",
    "LogisticMixtureConfig",
    "LogisticMixtureObjective",
    "ObjectiveConfig",
    "PixelCNNDecoder",
    "PixelCNNDecoderConfig",
    "TransformerDecoder",
    "TransformerDecoderConfig",
]
