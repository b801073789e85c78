"""A causal Transformer over vectors, with a cache for sampling."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.nn.dropout import StatelessDropout

INIT_STD = 0.02


class Cache:
    """Keys and values of the positions seen so far, in memory that is taken once.

    Args:
        batch: Number of items B.
        length: The most positions L it can hold.
        like: A parameter of the Transformer: its width, type and device. (..., D)
        num_layers: Number of layers.
        heads: Number of attention heads.
    """

    def __init__(
        self, batch: int, length: int, like: Tensor, *, num_layers: int, heads: int
    ) -> None:
        shape = (num_layers, batch, heads, length, like.shape[-1] // heads)
        self.keys = like.new_zeros(shape)
        self.values = like.new_zeros(shape)
        self.length = 0

    @property
    def capacity(self) -> int:
        """The most positions it can hold."""
        return self.keys.shape[3]


class CausalAttention(nn.Module):
    """Multi-head attention of each position to itself and the positions before it.

    Attention Is All You Need, section 3.2, https://arxiv.org/abs/1706.03762.

    Args:
        width: Length D of the vectors, a multiple of ``heads``.
        heads: Number of heads.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width is {width}, heads {heads}; make width a multiple of heads")
        self.heads = heads
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        """All positions at once: (B, L, D) -> (B, L, D)."""
        q, k, v = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), is_causal=True
        )
        return self.output(mixed.transpose(1, 2).flatten(2))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
        """One position; its key and value are written to the cache.

        Args:
            x: The position. (B, D)
            keys: Those of earlier positions. (B, heads, L, D / heads)
            values: As the keys. (B, heads, L, D / heads)
            position: How many positions came before.

        Returns:
            (B, D)
        """
        q, k, v = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        keys[:, :, position], values[:, :, position] = k, v
        seen = slice(position + 1)
        mixed = F.scaled_dot_product_attention(q.unsqueeze(2), keys[:, :, seen], values[:, :, seen])
        return self.output(mixed.flatten(1))


class Block(nn.Module):
    """Attention, then a network at each position; each reads a normalised copy and adds to x.

    On Layer Normalization in the Transformer Architecture (pre-norm), figure 1b,
    https://arxiv.org/abs/2002.04745.

    Args:
        width: Length D of the vectors.
        heads: Number of heads.
        dropout: Probability of dropping an element of what is added.
    """

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = CausalAttention(width, heads)
        self.network_norm = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = StatelessDropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """All positions at once: (B, L, D) -> (B, L, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.network(self.network_norm(x)))

    def step(self, x: Tensor, keys: Tensor, values: Tensor, position: int) -> Tensor:
        """One position, without dropout; arguments as in ``CausalAttention.step``."""
        x = x + self.attention.step(self.attention_norm(x), keys, values, position)
        return x + self.network(self.network_norm(x))


class Transformer(nn.Module):
    """A stack of causal blocks and a final normalisation.

    The weights start as in GPT-2: normal with deviation 0.02, and what is added to x further
    divided by sqrt(2 layers); Language Models are Unsupervised Multitask Learners, section 2.3.

    Args:
        width: Length D of the vectors, a multiple of ``heads``.
        num_layers: Number of blocks.
        heads: Number of attention heads.
        dropout: Probability of dropping an element of what a block adds.

    Raises:
        ValueError: If there are no layers, the heads do not divide the width, or ``dropout`` is no
            probability.
    """

    def __init__(self, width: int, *, num_layers: int, heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}; give at least 1")
        self.heads = heads
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self._initialize()

    def _initialize(self) -> None:
        added = INIT_STD / (2 * len(self.blocks)) ** 0.5
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                last = name.endswith(("attention.output.weight", "network.2.weight"))
                nn.init.normal_(parameter, std=added if last else INIT_STD)

    def forward(self, x: Tensor) -> Tensor:
        """All positions at once; position t of the result depends on positions up to t only.

        Args:
            x: Vectors. (B, L, D)

        Returns:
            Normalised vectors. (B, L, D)
        """
        for block in self.blocks:
            x = block(x)
        return self.norm(x)

    def cache(self, batch: int, length: int) -> Cache:
        """An empty cache for ``batch`` items of at most ``length`` positions."""
        like = self.norm.weight.detach()
        return Cache(batch, length, like, num_layers=len(self.blocks), heads=self.heads)

    @torch.no_grad()
    def step(self, x: Tensor, cache: Cache) -> Tensor:
        """The next position: what ``forward`` gives there, without computing the others again.

        Args:
            x: The position after those in the cache. (B, D)
            cache: Is extended by the position.

        Returns:
            Normalised vectors. (B, D)

        Raises:
            ValueError: If the cache is full.
        """
        if cache.length == cache.capacity:
            raise ValueError(f"the cache holds {cache.capacity} positions; make a longer one")
        for block, keys, values in zip(self.blocks, cache.keys, cache.values, strict=True):
            assert isinstance(block, Block)
            x = block.step(x, keys, values, cache.length)
        cache.length += 1
        return self.norm(x)
