"""Quantizers: light layers, importable alone."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import rebuild_dataclass

from vqkit.quantizers.assignment import Assignment, Balanced, Nearest, Sampled
from vqkit.quantizers.base import NotFinite, Quantized, Quantizer
from vqkit.quantizers.binary import (
    BinarySphericalQuantizer,
    BSQConfig,
    LFQConfig,
    LookupFreeQuantizer,
)
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.ema import EMAConfig, EMAVectorQuantizer
from vqkit.quantizers.latent import LatentConfig, LatentQuantizer
from vqkit.quantizers.normalized import Normalized, NormalizedConfig
from vqkit.quantizers.product import Product, ProductConfig
from vqkit.quantizers.projected import Projected, ProjectedConfig
from vqkit.quantizers.random_projection import RandomProjectionConfig, RandomProjectionQuantizer
from vqkit.quantizers.residual import Residual, ResidualConfig
from vqkit.quantizers.scalar import FiniteScalarQuantizer, FSQConfig
from vqkit.quantizers.simvq import LinearCodebook, SimVQConfig, SimVQuantizer
from vqkit.quantizers.vector import VectorQuantizer, VQConfig

__all__ = [
    "Assignment",
    "BSQConfig",
    "Balanced",
    "BinarySphericalQuantizer",
    "Codebook",
    "EMAConfig",
    "EMAVectorQuantizer",
    "FSQConfig",
    "FiniteScalarQuantizer",
    "LFQConfig",
    "LatentConfig",
    "LatentQuantizer",
    "LinearCodebook",
    "LookupFreeQuantizer",
    "Nearest",
    "Normalized",
    "NormalizedConfig",
    "NotFinite",
    "Product",
    "ProductConfig",
    "Projected",
    "ProjectedConfig",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "RandomProjectionConfig",
    "RandomProjectionQuantizer",
    "Residual",
    "ResidualConfig",
    "Sampled",
    "SimVQConfig",
    "SimVQuantizer",
    "VQConfig",
    "VectorQuantizer",
]

QuantizerConfig = Annotated[
    BSQConfig
    | EMAConfig
    | FSQConfig
    | LFQConfig
    | LatentConfig
    | NormalizedConfig
    | ProductConfig
    | ProjectedConfig
    | RandomProjectionConfig
    | ResidualConfig
    | SimVQConfig
    | VQConfig,
    Field(discriminator="type"),
]

# What these hold may be any of the union, themselves included.
for _config in (NormalizedConfig, ProductConfig, ProjectedConfig, ResidualConfig):
    rebuild_dataclass(_config)  # pyright: ignore[reportArgumentType]
