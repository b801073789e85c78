"""A Transformer over vectors, with a cache for sampling."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from vqkit.nn.attention import CrossAttention, SelfAttention
from vqkit.nn.dropout import StatelessDropout

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


@dataclass(slots=True)
class Cache:
    """What a Transformer has seen so far, in memory that is taken once.

    Attributes:
        keys: Of each block, item and head, of the positions so far. (N, B, heads, L, D / heads)
        values: As the keys.
        memory: Keys and values of the memory, for each block; empty without one.
        real: Which of the memory is real. (B, M) bool
        length: How many positions it holds.
    """

    keys: Tensor
    values: Tensor
    memory: list[tuple[Tensor, Tensor]]
    real: Tensor | None
    length: int = 0

    @property
    def capacity(self) -> int:
        """The most positions it can hold."""
        return self.keys.shape[3]


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
        if self.memory is not None and memory is not None:
            x = x + self.dropout(self._read(x, *self.memory.project(memory.vectors), memory.real))
        return x + self.dropout(self.network(self.network_norm(x)))

    def step(self, x: Tensor, cache: Cache, block: int) -> Tensor:
        """One position, without dropout: (B, D) -> (B, D)."""
        keys, values = cache.keys[block], cache.values[block]
        x = x + self.attention.step(self.attention_norm(x), keys, values, cache.length)
        if cache.memory and cache.real is not None:
            x = x + self._read(x.unsqueeze(1), *cache.memory[block], cache.real).squeeze(1)
        return x + self.network(self.network_norm(x))

    def _read(self, x: Tensor, keys: Tensor, values: Tensor, real: Tensor) -> Tensor:
        """What positions read in the memory: (B, L, D) -> (B, L, D)."""
        assert self.memory is not None
        assert self.memory_norm is not None
        return self.memory(self.memory_norm(x), keys, values, real)


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

    @torch.no_grad()
    def cache(self, batch: int, length: int, memory: Memory | None = None) -> Cache:
        """An empty cache for ``batch`` items of at most ``length`` positions."""
        width = self.norm.weight.shape[0]
        shape = (len(self.blocks), batch, self.heads, length, width // self.heads)
        read, real = [], None
        if memory is not None:
            read = [self._block(i).project(memory.vectors) for i in range(len(self.blocks))]
            real = memory.real
        return Cache(
            self.norm.weight.new_zeros(shape), self.norm.weight.new_zeros(shape), read, real
        )

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
        for number, block in enumerate(self.blocks):
            assert isinstance(block, Block)
            x = block.step(x, cache, number)
        cache.length += 1
        return self.norm(x)

    def _block(self, number: int) -> CrossAttention:
        """How one block reads the memory."""
        block = self.blocks[number]
        assert isinstance(block, Block)
        assert block.memory is not None
        return block.memory
