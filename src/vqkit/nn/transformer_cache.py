"""A causal Transformer position by position: each key and value is computed once."""

from __future__ import annotations

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.nn.packed import packed_linear
from vqkit.nn.step_attention import step_attention
from vqkit.nn.transformer import Block, Memory, Transformer


class CachedBlock:
    """A block with the keys and values of the positions so far.

    Args:
        block: Whose weights are copied.
        batch: Number of items B.
        length: The most positions L.
        memory: What it reads besides.
    """

    def __init__(self, block: Block, batch: int, length: int, memory: Memory | None) -> None:
        attention, heads = block.attention, block.attention.heads
        width = attention.output.out_features
        self.block = block
        self.queries_keys_values = packed_linear(attention.queries_keys_values, batch)
        self.output = packed_linear(attention.output, batch)
        wide, _, narrow = block.network
        self.wide, self.narrow = (
            packed_linear(cast(nn.Linear, each), batch) for each in (wide, narrow)
        )
        weight = attention.output.weight
        self.attention = step_attention(batch, heads, width // heads, length, weight)
        self.memory, self.real = None, None
        if memory is not None and block.memory is not None:
            self.memory, self.real = block.memory.project(memory.vectors), memory.real

    def step(self, x: Tensor, position: int) -> Tensor:
        """One position, without dropout: (B, D) to (B, D)."""
        rows = self.queries_keys_values(self.block.attention_norm(x))
        x = x + self.output(self.attention.step(rows, position))
        if self.memory is not None and self.real is not None:
            x = x + self._read(x.unsqueeze(1), *self.memory, self.real).squeeze(1)
        return x + self.narrow(F.gelu(self.wide(self.block.network_norm(x))))

    def _read(self, x: Tensor, keys: Tensor, values: Tensor, real: Tensor) -> Tensor:
        """What a position reads in the memory: (B, 1, D) to (B, 1, D)."""
        assert self.block.memory is not None
        assert self.block.memory_norm is not None
        return self.block.memory(self.block.memory_norm(x), keys, values, real)


class Cache:
    """What a Transformer has seen so far, in memory that is taken once.

    Args:
        transformer: Whose weights are copied: later changes are not seen.
        batch: Number of items B.
        length: The most positions it can hold.
        memory: What every position may read besides.
    """

    @torch.no_grad()
    def __init__(
        self, transformer: Transformer, batch: int, length: int, memory: Memory | None
    ) -> None:
        blocks = cast(list[Block], list(transformer.blocks))
        self.blocks = [CachedBlock(block, batch, length, memory) for block in blocks]
        self.norm, self.capacity, self.length = transformer.norm, length, 0

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """The next position (B, D), see ``Transformer.step``. (B, D)"""
        if self.length == self.capacity:
            raise ValueError(f"the cache holds {self.capacity} positions; make a longer one")
        for block in self.blocks:
            x = block.step(x, self.length)
        self.length += 1
        return self.norm(x)
