"""Priors: distributions over codes, from which new codes are drawn."""

from typing import Annotated

from pydantic import Field

from vqkit.priors.absorbing import AbsorbingDiffusionConfig, AbsorbingDiffusionPrior
from vqkit.priors.autoregressive import AutoregressivePrior
from vqkit.priors.base import Prior
from vqkit.priors.conditioning import Conditioning, ConditioningSpec
from vqkit.priors.counted import CountedPrior
from vqkit.priors.delay import DelayTransformerConfig, DelayTransformerPrior
from vqkit.priors.depth import DepthTransformerConfig, DepthTransformerPrior
from vqkit.priors.diffusion import DiffusionPrior
from vqkit.priors.hierarchical import HierarchicalConfig, HierarchicalPrior
from vqkit.priors.histogram import HistogramConfig, HistogramPrior
from vqkit.priors.lengths import Lengths
from vqkit.priors.mixture import MixtureConfig, MixturePrior
from vqkit.priors.ngram import NGramConfig, NGramPrior
from vqkit.priors.pixelcnn import PixelCNNConfig, PixelCNNPrior
from vqkit.priors.sampling import choose
from vqkit.priors.transformer import TransformerConfig, TransformerPrior
from vqkit.priors.uniform import UniformConfig, UniformPrior
from vqkit.priors.uniform_diffusion import UniformDiffusionConfig, UniformDiffusionPrior

__all__ = [
    "AbsorbingDiffusionConfig",
    "AbsorbingDiffusionPrior",
    "AutoregressivePrior",
    "Conditioning",
    "ConditioningSpec",
    "CountedPrior",
    "DelayTransformerConfig",
    "DelayTransformerPrior",
    "DepthTransformerConfig",
    "DepthTransformerPrior",
    "DiffusionPrior",
    "HierarchicalConfig",
    "HierarchicalPrior",
    "HistogramConfig",
    "HistogramPrior",
    "Lengths",
    "MixtureConfig",
    "MixturePrior",
    "NGramConfig",
    "NGramPrior",
    "PixelCNNConfig",
    "PixelCNNPrior",
    "Prior",
    "PriorConfig",
    "TransformerConfig",
    "TransformerPrior",
    "UniformConfig",
    "UniformDiffusionConfig",
    "UniformDiffusionPrior",
    "UniformPrior",
    "choose",
]

PriorConfig = Annotated[
    AbsorbingDiffusionConfig
    | DelayTransformerConfig
    | DepthTransformerConfig
    | HierarchicalConfig
    | HistogramConfig
    | MixtureConfig
    | NGramConfig
    | PixelCNNConfig
    | TransformerConfig
    | UniformConfig
    | UniformDiffusionConfig,
    Field(discriminator="type"),
]
