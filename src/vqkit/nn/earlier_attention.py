"""Attention to strictly earlier positions of a grid, with a cache for sampling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.nn.dropout import StatelessDropout
from vqkit.nn.positions import grid_positions


class EarlierAttention(nn.Module):
    """Each position reads the features and the inputs of those strictly before it, and adds to h.

    PixelSNAIL, section 3.1, https://arxiv.org/abs/1712.09763. Queries come from the features;
    keys and values from the features and the inputs, which a position may not know of itself. The
    first key is learned and belongs to no position: the first position has nothing else to read.

    Args:
        inputs: Length C of the input of a position.
        width: Length D of the features, a multiple of ``heads``.
        heads: Number of heads.
        dropout: Probability of dropping an element of what is added.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(self, inputs: int, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width is {width}, heads {heads}; make width a multiple of heads")
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.keys_values = nn.Linear(width + inputs, 2 * width)
        self.nothing = nn.Parameter(torch.zeros(2 * width))  # key and value before the first
        self.output = nn.Linear(width, width)
        self.dropout = StatelessDropout(dropout)

    def forward(self, h: Tensor, x: Tensor) -> Tensor:
        """All positions at once.

        Args:
            h: Features; those of a position know nothing of its own input. (B, D, H, W)
            x: Inputs. (B, C, H, W)

        Returns:
            Features. (B, D, H, W)
        """
        height, width = grid = h.shape[2:]
        normed = self.norm(h.flatten(2).mT) + grid_positions(height, width, h.shape[1], like=h)
        earlier = torch.cat([normed, x.flatten(2).mT], dim=-1)[:, :-1]
        # Key number t is that of position t - 1, so that the usual causal mask is a strict one.
        nothing = self.nothing.expand(len(h), 1, -1)
        k, v = self._heads(torch.cat([nothing, self.keys_values(earlier)], dim=1)).chunk(2, dim=1)
        q = self._heads(self.query(normed))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        added = self.dropout(self.output(mixed.transpose(1, 2).flatten(2)))
        return h + added.mT.unflatten(2, grid)

    def _heads(self, x: Tensor) -> Tensor:
        """Splits vectors into heads: (B, L, n D) to (B, n heads, L, D / heads)."""
        return x.unflatten(-1, (-1, self.query.out_features // self.heads)).transpose(1, 2)


class EarlierCache:
    """Keys and values of the positions seen so far, for one position after another.

    Args:
        attention: Whose weights are used.
        batch: Number of items B.
        height: Rows of the grid.
        width: Columns of the grid.
    """

    def __init__(self, attention: EarlierAttention, batch: int, height: int, width: int) -> None:
        self.attention = attention
        self.length = 0
        dim = attention.query.out_features
        self.positions = grid_positions(height, width, dim, like=attention.nothing)
        shape = (batch, 2 * attention.heads, height * width, dim // attention.heads)
        self.keys_values = attention.nothing.new_zeros(shape)
        self.keys_values[:, :, 0] = attention.nothing.detach().view(2 * attention.heads, -1)
        self.normed = attention.nothing.new_zeros(batch, dim)

    def step(self, h: Tensor, previous: Tensor | None) -> Tensor:
        """What ``forward`` gives at the next position, without dropout.

        Args:
            h: Its features. (B, D)
            previous: The input of the position before; anything at the first. (B, C)

        Returns:
            Features. (B, D)
        """
        attention, position = self.attention, self.length
        if position and previous is not None:
            before = attention.keys_values(torch.cat([self.normed, previous], dim=1))
            self.keys_values[:, :, position] = before.unflatten(1, (2 * attention.heads, -1))
        self.normed = attention.norm(h) + self.positions[position]
        q = attention.query(self.normed).unflatten(1, (attention.heads, 1, -1))
        k, v = self.keys_values[:, :, : position + 1].chunk(2, dim=1)
        mixed = F.scaled_dot_product_attention(q, k, v)
        self.length += 1
        return h + attention.output(mixed.flatten(1))
