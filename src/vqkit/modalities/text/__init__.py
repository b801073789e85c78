"""Texts: networks, decoders, objective, data and metrics."""

from vqkit.modalities.text.autoregressive import (
    AutoregressiveConfig,
    DecoderConfig,
    ParallelConfig,
    SymbolDecoder,
)
from vqkit.modalities.text.data import TextDataConfig, TextExamples
from vqkit.modalities.text.lossless import Corrections, corrections, restore
from vqkit.modalities.text.metrics import TextMetrics
from vqkit.modalities.text.modality import TEXT, TextModality
from vqkit.modalities.text.model import TextModelConfig
from vqkit.modalities.text.network import ParallelDecoder, TextEncoder, TextNetworkConfig
from vqkit.modalities.text.objective import Categorical, CategoricalConfig, CategoricalObjective
from vqkit.modalities.text.symbols import BYTES, END, Symbols
from vqkit.modalities.text.vocabulary import Vocabulary

__all__ = [
    "BYTES",
    "END",
    "TEXT",
    "AutoregressiveConfig",
    "Categorical",
    "CategoricalConfig",
    "CategoricalObjective",
    "Corrections",
    "DecoderConfig",
    "ParallelConfig",
    "ParallelDecoder",
    "SymbolDecoder",
    "Symbols",
    "TextDataConfig",
    "TextEncoder",
    "TextExamples",
    "TextMetrics",
    "TextModality",
    "TextModelConfig",
    "TextNetworkConfig",
    "Vocabulary",
    "corrections",
    "restore",
]
