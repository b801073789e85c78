"""Quantizers: light layers, importable alone."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import rebuild_dataclass

from vqkit.quantizers.additive import Additive, AdditiveConfig
from vqkit.quantizers.assignment import Assignment, Balanced, Nearest, Sampled
from vqkit.quantizers.base import Quantized, Quantizer
from vqkit.quantizers.binary import (
    BinarySphericalQuantizer,
    BSQConfig,
    LFQConfig,
    LookupFreeQuantizer,
)
from vqkit.quantizers.checks import NotFinite
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.ema import EMAConfig, EMAVectorQuantizer
from vqkit.quantizers.entries import entry_vectors
from vqkit.quantizers.gumbel import (
    Annealing,
    GumbelConfig,
    GumbelQuantizer,
    SQConfig,
    StochasticQuantizer,
)
from vqkit.quantizers.hiding import Hiding
from vqkit.quantizers.ibq import IBQConfig, IndexBackpropQuantizer
from vqkit.quantizers.latent import LatentConfig, LatentQuantizer
from vqkit.quantizers.multiscale import MultiScaleConfig, MultiScaleResidual
from vqkit.quantizers.normalized import Normalized, NormalizedConfig
from vqkit.quantizers.product import Product, ProductConfig
from vqkit.quantizers.projected import Projected, ProjectedConfig
from vqkit.quantizers.random_projection import RandomProjectionConfig, RandomProjectionQuantizer
from vqkit.quantizers.regularized import Regularized, RegularizedConfig
from vqkit.quantizers.residual import Residual, ResidualConfig
from vqkit.quantizers.rotated import Rotated, RotatedConfig
from vqkit.quantizers.scalar import FiniteScalarQuantizer, FSQConfig
from vqkit.quantizers.selective import Selective, SelectiveConfig
from vqkit.quantizers.simvq import LinearCodebook, SimVQConfig, SimVQuantizer
from vqkit.quantizers.vector import VectorQuantizer, VQConfig

__all__ = [
    "Additive",
    "AdditiveConfig",
    "Annealing",
    "Assignment",
    "BSQConfig",
    "Balanced",
    "BinarySphericalQuantizer",
    "Codebook",
    "EMAConfig",
    "EMAVectorQuantizer",
    "FSQConfig",
    "FiniteScalarQuantizer",
    "GumbelConfig",
    "GumbelQuantizer",
    "Hiding",
    "IBQConfig",
    "IndexBackpropQuantizer",
    "LFQConfig",
    "LatentConfig",
    "LatentQuantizer",
    "LinearCodebook",
    "LookupFreeQuantizer",
    "MultiScaleConfig",
    "MultiScaleResidual",
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
    "Regularized",
    "RegularizedConfig",
    "Residual",
    "ResidualConfig",
    "Rotated",
    "RotatedConfig",
    "SQConfig",
    "Sampled",
    "Selective",
    "SelectiveConfig",
    "SimVQConfig",
    "SimVQuantizer",
    "StochasticQuantizer",
    "VQConfig",
    "VectorQuantizer",
    "entry_vectors",
]

QuantizerConfig = Annotated[
    AdditiveConfig
    | BSQConfig
    | EMAConfig
    | FSQConfig
    | GumbelConfig
    | IBQConfig
    | LFQConfig
    | LatentConfig
    | MultiScaleConfig
    | NormalizedConfig
    | ProductConfig
    | ProjectedConfig
    | RandomProjectionConfig
    | RegularizedConfig
    | ResidualConfig
    | RotatedConfig
    | SQConfig
    | SelectiveConfig
    | SimVQConfig
    | VQConfig,
    Field(discriminator="type"),
]

# What these hold may be any of the union, themselves included.
for _config in (
    AdditiveConfig,
    MultiScaleConfig,
    NormalizedConfig,
    ProductConfig,
    ProjectedConfig,
    RegularizedConfig,
    ResidualConfig,
    RotatedConfig,
    SelectiveConfig,
):
    rebuild_dataclass(_config)  # pyright: ignore[reportArgumentType]
