"""What the decoder's outputs mean, and the loss that follows."""

from typing import Annotated

from pydantic import Field

from vqkit.modalities.image.gaussian import Gaussian, GaussianConfig, GaussianObjective
from vqkit.modalities.image.mixture import (
    LogisticMixture,
    LogisticMixtureConfig,
    LogisticMixtureObjective,
)

__all__ = [
    "Gaussian",
    "GaussianConfig",
    "GaussianObjective",
    "LogisticMixture",
    "LogisticMixtureConfig",
    "LogisticMixtureObjective",
    "ObjectiveConfig",
]

ObjectiveConfig = Annotated[GaussianConfig | LogisticMixtureConfig, Field(discriminator="type")]
