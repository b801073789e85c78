"""The config of an autoencoder of texts."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.modalities.base import OneLevel, Parts
from vqkit.modalities.text.autoregressive import DecoderConfig, ParallelConfig
from vqkit.modalities.text.network import TextNetworkConfig
from vqkit.modalities.text.objective import CategoricalConfig
from vqkit.modalities.text.symbols import BYTES, Symbols
from vqkit.quantizers import EMAConfig, QuantizerConfig
from vqkit.schema import STRICT


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TextModelConfig(OneLevel):
    """Transformers over patches of symbols, a quantizer between them, and a likelihood."""

    type: Literal["text"] = "text"
    """The kind of data."""
    network: TextNetworkConfig = TextNetworkConfig()
    """Encoder, and what reads the codes."""
    quantizer: QuantizerConfig = Field(default_factory=lambda: EMAConfig(codebook_size=1024))
    """What turns vectors into codes."""
    decoder: DecoderConfig = ParallelConfig()
    """What decodes: all symbols at once, or one after another."""
    objective: CategoricalConfig = CategoricalConfig()
    """What the decoder is trained for."""
    vocabulary: str | None = None
    """As data.vocabulary: a tokenizer.json; the model keeps what its pieces are. null: bytes."""
    num_symbols: Annotated[int, Field(ge=2)] | None = None
    """Number of symbols with the end. null: as many as the vocabulary has, or 257."""

    def fitted(self, shape: Sequence[int]) -> Self:
        """The config with the number of symbols: a saved model needs no vocabulary file."""
        return replace(self, num_symbols=len(self.symbols()))

    def check_data(self, data: Any) -> None:
        """Raises ValueError unless texts are cut as the networks read them."""
        for name, own in (("patch", self.network.patch), ("vocabulary", self.vocabulary)):
            key = f"model.network.{name}" if name == "patch" else f"model.{name}"
            given = getattr(data, name)
            if given != own:
                raise ValueError(f"data.{name} is {given}, {key} {own}; make them equal")

    def symbols(self) -> Symbols:
        """What the integers of an item stand for; of a file that is gone, their number alone.

        Raises:
            ValueError: If there is another number of them.
        """
        if self.vocabulary is None:
            found = BYTES
        elif self.num_symbols is not None and not Path(self.vocabulary).is_file():
            return Symbols([b""] * self.num_symbols)  # until the weights are loaded
        else:
            from vqkit.modalities.text.vocabulary import open_vocabulary

            found = open_vocabulary(self.vocabulary).symbols
        if self.num_symbols not in (None, len(found)):
            raise ValueError(
                f"model.num_symbols is {self.num_symbols}, but there are {len(found)}; leave it out"
            )
        return found

    def parts(self) -> Parts:
        """Everything the model is made of, with new weights from torch's global generator."""
        symbols, network = self.symbols(), self.network
        quantizer = self.quantizer.build(network.dim)
        encoder, decoder = network.encoder(len(symbols)), self.decoder.build(network, len(symbols))
        return Parts(encoder, [quantizer], decoder, self.objective.build(symbols))
