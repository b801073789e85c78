"""Vectors: networks, objective, data and metrics."""

from vqkit.modalities.vector.data import VectorDataConfig, VectorExamples
from vqkit.modalities.vector.metrics import VectorMetrics
from vqkit.modalities.vector.modality import VECTOR, VectorModality
from vqkit.modalities.vector.model import VectorModelConfig
from vqkit.modalities.vector.network import IdentityConfig, MLPConfig
from vqkit.modalities.vector.objective import SquaredErrorConfig, SquaredErrorObjective

__all__ = [
    "VECTOR",
    "IdentityConfig",
    "MLPConfig",
    "SquaredErrorConfig",
    "SquaredErrorObjective",
    "VectorDataConfig",
    "VectorExamples",
    "VectorMetrics",
    "VectorModality",
    "VectorModelConfig",
]
