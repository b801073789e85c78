"""Quantizers: light layers, importable alone."""

from typing import Annotated

from pydantic import Field
from pydantic.dataclasses import rebuild_dataclass

from vqkit.quantizers.assignment import Assignment, Balanced, Nearest, Sampled
from vqkit.quantizers.base import NotFinite, Quantized, Quantizer
from vqkit.quantizers.codebook import Codebook
from vqkit.quantizers.ema import EMAConfig, EMAVectorQuantizer
from vqkit.quantizers.normalized import Normalized, NormalizedConfig
from vqkit.quantizers.vector import VectorQuantizer, VQConfig

__all__ = [
    "Assignment",
    "Balanced",
    "Codebook",
    "EMAConfig",
    "EMAVectorQuantizer",
    "Nearest",
    "Normalized",
    "NormalizedConfig",
    "NotFinite",
    "Quantized",
    "Quantizer",
    "QuantizerConfig",
    "Sampled",
    "VQConfig",
    "VectorQuantizer",
]

QuantizerConfig = Annotated[EMAConfig | NormalizedConfig | VQConfig, Field(discriminator="type")]

# What is normalised may be any of the union, itself included.
rebuild_dataclass(NormalizedConfig)  # pyright: ignore[reportArgumentType]
