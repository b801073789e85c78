"""A Transformer over vectors, with a cache for sampling."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor, nn

from vqkit.nn.attention import CrossAttention, SelfAttention
from vqkit.nn.dropout import StatelessDropout

if TYPE_CHECKING:
    from vqkit.nn.transformer_cache import Cache

INIT_STD = 0.02


@dataclass(frozen=True, slots=True)
class Memory:
    """What every position may read besides the other positions.

    Attributes:
        vectors: What there is to read. (B, M, D)
        real: Which of it is real, at least one of each item. (B, M) bool
    """

    vectors: Tensor
    real: Tensor


class Block(nn.Module):
    """Attention, then a network at each position; each reads a normalised copy and adds to x.

    On Layer Normalization in the Transformer Architecture (pre-norm), figure 1b,
    https://arxiv.org/abs/2002.04745.

    Args:
        width: Length D of the vectors.
        heads: Number of attention heads.
        dropout: Probability of dropping an element of what is added.
        causal: Whether positions see only those before them.
        memory: Whether there is a memory, which is read between the two.
    """

    def __init__(
        self, width: int, heads: int, dropout: float, *, causal: bool = True, memory: bool = False
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width)
        self.attention = SelfAttention(width, heads, causal=causal)
        self.memory_norm = nn.LayerNorm(width) if memory else None
        self.memory = CrossAttention(width, heads) if memory else None
        self.network_norm = nn.LayerNorm(width)
        self.network = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.dropout = StatelessDropout(dropout)

    def forward(self, x: Tensor, visible: Tensor | None, memory: Memory | None) -> Tensor:
        """All positions at once: (B, L, D) -> (B, L, D)."""
        x = x + self.dropout(self.attention(self.attention_norm(x), visible))
        if self.memory is not None and self.memory_norm is not None and memory is not None:
            keys_values = self.memory.project(memory.vectors)
            read = self.memory(self.memory_norm(x), *keys_values, memory.real)
            x = x + self.dropout(read)
        return x + self.dropout(self.network(self.network_norm(x)))


class Transformer(nn.Module):
    """A stack of blocks and a final normalisation.

    The weights start as in GPT-2: normal with deviation 0.02, and what is added to x further
    divided by sqrt(2 layers); Language Models are Unsupervised Multitask Learners, section 2.3.

    Args:
        width: Length D of the vectors, a multiple of ``heads``.
        num_layers: Number of blocks.
        heads: Number of attention heads.
        dropout: Probability of dropping an element of what a block adds.
        causal: Whether positions see only themselves and those before them; else they see all.
        memory: Whether positions also read a ``Memory``.

    Raises:
        ValueError: If there are no layers, the heads do not divide the width, or ``dropout`` is no
            probability.
    """

    def __init__(
        self,
        width: int,
        *,
        num_layers: int,
        heads: int,
        dropout: float = 0.0,
        causal: bool = True,
        memory: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise ValueError(f"num_layers is {num_layers}; give at least 1")
        self.heads = heads
        self.blocks = nn.ModuleList(
            Block(width, heads, dropout, causal=causal, memory=memory) for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(width)
        self._initialize()

    def _initialize(self) -> None:
        added = INIT_STD / (2 * len(self.blocks)) ** 0.5
        for name, parameter in self.named_parameters():
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
            elif parameter.dim() == 2:
                last = name.endswith(("output.weight", "network.2.weight"))
                nn.init.normal_(parameter, std=added if last else INIT_STD)

    def forward(
        self, x: Tensor, visible: Tensor | None = None, memory: Memory | None = None
    ) -> Tensor:
        """All positions at once; if causal, position t of the result depends on those up to t only.

        Args:
            x: Vectors. (B, L, D)
            visible: Which positions are seen by others, at least one of each item; None for all.
                Not if causal. (B, L) bool
            memory: What to read besides.

        Returns:
            Normalised vectors. (B, L, D)
        """
        for block in self.blocks:
            x = block(x, visible, memory)
        return self.norm(x)

    def cache(self, batch: int, length: int, memory: Memory | None = None) -> Cache:
        """An empty cache for ``batch`` items of at most ``length`` positions.

        Args:
            batch: Number of items B.
            length: The most positions.
            memory: What to read besides.
        """
        from vqkit.nn.transformer_cache import Cache

        return Cache(self, batch, length, memory)

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
        return cache.step(x)
