"""Encoder and decoder of texts: symbols in patches, and Transformers over the patches."""

from typing import Annotated

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass
from torch import Tensor, nn

from vqkit.modalities.text.symbols import END, padded_length
from vqkit.nn.positions import line_positions
from vqkit.nn.transformer import Transformer
from vqkit.schema import STRICT, Heads

CERTAIN = 1e4  # a logit beside which others have no probability, even in half precision
Width = Annotated[int, Field(ge=1)]
Layers = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class TextNetworkConfig:
    """Patches of symbols, and Transformers over them on either side of the codes."""

    patch: Annotated[int, Field(ge=1)] = 2
    """Symbols that one code vector stands for, r; data.patch must be the same."""
    symbol_width: Width = 64
    """Length of the vectors of symbols."""
    width: Width = 128
    """Length of the vectors of patches between the blocks; even."""
    encoder_layers: Layers = 1
    """Blocks over the patches before the codes; 0: a code knows its own symbols alone."""
    decoder_layers: Layers = 2
    """Blocks over the codes in the decoder; 0: a patch is decoded from its own code alone."""
    heads: Heads = 4
    """Number of attention heads; divides the width."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability of dropping an element in training."""
    dim: Annotated[int, Field(ge=1)] = 64
    """Length D of the vectors that are quantized."""

    def encoder(self, symbols: int) -> "TextEncoder":
        """From items of so many symbols to vectors."""
        return TextEncoder(symbols, self)

    def blocks(self, num_layers: int, share: float) -> "PatchBlocks":
        """So many blocks over patches, which begin with such a share in what they add to."""
        return PatchBlocks(self, num_layers, share)


class PatchBlocks(nn.Module):
    """What patches learn of each other: x + s T(x + places), T a Transformer that sees all.

    ReZero is All You Need, equation 3, https://arxiv.org/abs/2003.04887, with a number s for each
    coordinate. From s = 0 a code begins as one of its own patch alone, and codebooks start well.

    Args:
        config: Widths and heads.
        num_layers: Number of blocks; none add nothing.
        share: What every s begins with.
    """

    def __init__(self, config: TextNetworkConfig, num_layers: int, share: float) -> None:
        super().__init__()
        self.transformer = None
        if num_layers:
            self.transformer = Transformer(
                config.width,
                num_layers=num_layers,
                heads=config.heads,
                dropout=config.dropout,
                causal=False,
            )
            self.share = nn.Parameter(torch.full((config.width,), share))

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Patches (B, L, W) to such, those that are real (B, L) bool seeing each other alone."""
        if self.transformer is None:
            return x
        visible = mask
        if mask is not None:  # an item without anything sees all, for there is no mean of nothing
            visible = mask | ~mask.any(1, keepdim=True)
        placed = x + line_positions(x.shape[1], x.shape[2], like=x)
        return x + self.share * self.transformer(placed, visible)


class TextEncoder(nn.Module):
    """Symbols to one vector for each patch of r of them.

    The vectors of the symbols of a patch are joined and mapped by a small network, as in
    MEGABYTE, section 2.1, https://arxiv.org/abs/2305.07185, with blocks that see both sides.

    Args:
        symbols: Number of symbols V.
        config: Widths and depth.
    """

    reads_mask = True

    def __init__(self, symbols: int, config: TextNetworkConfig) -> None:
        super().__init__()
        self.patch = config.patch
        joined = config.patch * config.symbol_width
        self.embedding = nn.Embedding(symbols, config.symbol_width)
        self.join = nn.Sequential(
            nn.Linear(joined, config.width), nn.GELU(), nn.Linear(config.width, config.width)
        )
        self.blocks = config.blocks(config.encoder_layers, 0.0)
        self.output = nn.Linear(config.width, config.dim)

    def padded(self, grid: tuple[int, ...]) -> tuple[int, ...]:
        """The length that patches divide."""
        return (padded_length(grid[0], self.patch),)

    def code_mask(self, mask: Tensor) -> Tensor:
        """A patch is real if any of its symbols is: (B, L) bool to (B, L / r) bool."""
        return mask.unflatten(1, (-1, self.patch)).any(2)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Vectors of the patches.

        Args:
            x: Symbols, the end where nothing is real. (B, 1, L) int64
            mask: True where they are real; None when all are. (B, L) bool

        Returns:
            (B, D, L / r)
        """
        patches = self.embedding(x.squeeze(1)).unflatten(1, (-1, self.patch)).flatten(2)
        real = None if mask is None else self.code_mask(mask)
        return self.output(self.blocks(self.join(patches), real)).mT


class CodeReader(nn.Module):
    """What codes say to each of their symbols: blocks over the codes, then r vectors of each.

    Args:
        width: Length of the vectors of symbols.
        config: Widths and depth.
    """

    def __init__(self, width: int, config: TextNetworkConfig) -> None:
        super().__init__()
        self.patch = config.patch
        self.input = nn.Linear(config.dim, config.width)
        self.blocks = config.blocks(config.decoder_layers, 1.0)
        self.spread = nn.Linear(config.width, config.patch * width)

    def forward(self, z_q: Tensor, mask: Tensor | None) -> Tensor:
        """Vectors (B, D, L / r), real where (B, L / r), to (B, L, width)."""
        h = self.spread(self.blocks(self.input(z_q.mT), mask))
        return h.unflatten(2, (self.patch, -1)).flatten(1, 2)


class ParallelDecoder(nn.Module):
    """Logits of all symbols at once.

    Args:
        symbols: Number of symbols V.
        config: Widths and depth.
    """

    reads_mask = True

    def __init__(self, symbols: int, config: TextNetworkConfig) -> None:
        super().__init__()
        self.reader = CodeReader(config.width, config)
        self.head = nn.Sequential(nn.GELU(), nn.Linear(config.width, symbols))

    def forward(self, z_q: Tensor, mask: Tensor | None = None) -> Tensor:
        """What is said of each symbol.

        Args:
            z_q: Quantized vectors. (B, D, L / r)
            mask: True where they are real; None when all are. (B, L / r) bool

        Returns:
            Logits, of which the end's alone counts where nothing is real. (B, V, L)
        """
        logits = self.head(self.reader(z_q, mask))
        return ended(logits, nothing(mask, self.reader.patch)).mT


def nothing(mask: Tensor | None, patch: int) -> Tensor | None:
    """Where no symbol is: (B, L / r) bool to (B, L) bool; None for nowhere."""
    return None if mask is None else ~mask.repeat_interleave(patch, dim=1)


def ended(logits: Tensor, where: Tensor | None) -> Tensor:
    """Logits (..., V) by which the end is certain where (...) bool is true."""
    if where is None:
        return logits
    certain = torch.zeros_like(logits[..., :1].detach()).expand_as(logits).clone()
    certain[..., END] = CERTAIN
    return torch.where(where.unsqueeze(-1), certain, logits)
