"""A decoder that writes symbol after symbol: a causal Transformer that the codes condition."""

from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.modalities.text.network import (
    CodeReader,
    ParallelDecoder,
    TextNetworkConfig,
    ended,
    nothing,
)
from vqkit.nn.autoregressive import AutoregressiveDecoder
from vqkit.nn.positions import line_positions
from vqkit.nn.transformer import Transformer
from vqkit.schema import STRICT, Heads


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ParallelConfig:
    """All symbols at once, from the codes alone."""

    type: Literal["parallel"] = "parallel"

    def build(self, network: TextNetworkConfig, symbols: int) -> nn.Module:
        """The decoder to logits of so many symbols."""
        return ParallelDecoder(symbols, network)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AutoregressiveConfig:
    """One symbol after another, from the codes and the symbols before it."""

    type: Literal["autoregressive"] = "autoregressive"
    width: Annotated[int, Field(ge=1)] = 128
    """Length of the vectors between the blocks; even."""
    layers: Annotated[int, Field(ge=1)] = 2
    """Number of blocks over the symbols."""
    heads: Heads = 4
    """Number of attention heads; divides the width."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping an element in training."""

    def build(self, network: TextNetworkConfig, symbols: int) -> nn.Module:
        """The decoder to logits of so many symbols."""
        return SymbolDecoder(symbols, network, self)


DecoderConfig = Annotated[ParallelConfig | AutoregressiveConfig, Field(discriminator="type")]
"""What decodes: all symbols at once, or one after another."""


class SymbolDecoder(AutoregressiveDecoder):
    """What is said of a symbol, from the codes and the symbols before it.

    The vector of a position is the sum of the symbol before it, of its place and of what the codes
    say to it. Whether anything is there is one more channel of what the codes say.

    Args:
        symbols: Number of symbols V.
        network: Widths and depth of what reads the codes.
        config: Widths and depth of the Transformer.
    """

    reads_mask = True

    def __init__(
        self, symbols: int, network: TextNetworkConfig, config: AutoregressiveConfig
    ) -> None:
        super().__init__()
        self.reader = CodeReader(config.width, network)
        self.embedding = nn.Embedding(symbols, config.width)
        self.begin = nn.Parameter(torch.zeros(config.width))
        self.transformer = Transformer(
            config.width, num_layers=config.layers, heads=config.heads, dropout=config.dropout
        )
        self.head = nn.Linear(config.width, symbols)

    def forward(self, *z_q: Tensor, mask: Tensor | None = None) -> Tensor:
        """What the codes say to each symbol.

        Args:
            z_q: Quantized vectors of the only level. (B, D, L / r)
            mask: True where they are real; None when all are. (B, L / r) bool

        Returns:
            The last channel is 1 where nothing is, else 0. (B, W + 1, L)
        """
        h = self.reader(z_q[0], mask)
        where = nothing(mask, self.reader.patch)
        flag = h.new_zeros(h.shape[:2]) if where is None else where.to(h.dtype)
        return torch.cat([h, flag.unsqueeze(2)], dim=2).mT

    def outputs(self, h: Tensor, x: Tensor) -> Tensor:
        earlier = self.embedding(x.squeeze(1)[:, :-1])
        begin = self.begin.to(earlier.dtype).expand(len(x), 1, -1)
        read = torch.cat([begin, earlier], dim=1) + self.placed(h)
        return ended(self.head(self.transformer(read)), h[:, -1] > 0).mT

    def stepper(self, h: Tensor) -> "SymbolStepper":
        return SymbolStepper(self, h.detach().to(self.begin.dtype))

    def placed(self, h: Tensor) -> Tensor:
        """What the codes say to each symbol, with its place: (B, W + 1, L) to (B, L, W)."""
        said = h[:, :-1].mT
        return said + line_positions(said.shape[1], said.shape[2], like=said)


class SymbolStepper:
    """The decoder symbol after symbol.

    Args:
        decoder: Whose weights are used.
        h: What the codes say to each symbol. (B, W + 1, L)
    """

    @torch.no_grad()
    def __init__(self, decoder: SymbolDecoder, h: Tensor) -> None:
        self.decoder, self.placed, self.nothing = decoder, decoder.placed(h), h[:, -1] > 0
        self.cache = decoder.transformer.cache(len(h), self.placed.shape[1])

    @torch.no_grad()
    def step(self, previous: Tensor | None) -> Tensor:
        """See ``Stepper``; a symbol (B, 1) to the logits of the next, (B, V)."""
        position = self.cache.length
        before = self.decoder.begin
        if position and previous is not None:
            before = self.decoder.embedding(previous.squeeze(1))
        x = before + self.placed[:, position]
        logits = self.decoder.head(self.decoder.transformer.step(x, self.cache))
        return ended(logits, self.nothing[:, position])
