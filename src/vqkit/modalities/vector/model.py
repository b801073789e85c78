"""The config of an autoencoder of vectors."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.modalities.base import OneLevel, Parts
from vqkit.modalities.vector.network import MLPConfig, NetworkConfig
from vqkit.modalities.vector.objective import SquaredErrorConfig
from vqkit.quantizers import EMAConfig, QuantizerConfig
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VectorModelConfig(OneLevel):
    """Fully connected networks around a quantizer, or a quantizer alone."""

    type: Literal["vector"] = "vector"
    """The kind of data."""
    columns: Annotated[int, Field(ge=1)] | None = None
    """Numbers of a vector. null: as many as the vectors of the training data have."""
    network: NetworkConfig = Field(default_factory=MLPConfig)
    """Encoder and decoder."""
    quantizer: QuantizerConfig = Field(default_factory=EMAConfig)
    """What turns vectors into codes."""
    objective: SquaredErrorConfig = SquaredErrorConfig()
    """What the decoder is trained for."""

    def fitted(self, shape: Sequence[int]) -> Self:
        """The config with as many columns as items of this shape have, where it says none."""
        return self if self.columns is not None else replace(self, columns=shape[0])

    def check_data(self, data: Any) -> None:
        """Vectors of any settings go through the network."""

    def parts(self) -> Parts:
        """Everything the model is made of, with new weights from torch's global generator."""
        network, columns = self.network, self.columns
        if columns is None:
            raise ValueError("model.columns is null; give the number of columns")
        encoder, quantizer = network.encoder(columns), self.quantizer.build(network.coded(columns))
        return Parts(encoder, [quantizer], network.decoder(columns), self.objective.build(columns))
