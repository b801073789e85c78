"""Causal attention position by position: keys and values so far, and one query at a time."""

from typing import Protocol

import torch
from torch import Tensor

from vqkit.compiled import failed_in_parts
from vqkit.nn import step_library

PRODUCTS_PER_THREAD = 2**21  # with fewer, handing over costs more than it saves


class StepAttention(Protocol):
    """Attention with what it keeps of the positions so far."""

    def step(self, rows: Tensor, position: int) -> Tensor:
        """What a position sees of itself and those before it.

        Args:
            rows: Its queries, keys and values, one after another. (B, 3 D)
            position: Its number; those before it were given.

        Returns:
            (B, D)
        """
        ...


def step_attention(batch: int, heads: int, dim: int, length: int, like: Tensor) -> StepAttention:
    """The fastest there is for some device and type.

    Args:
        batch: Number of items B.
        heads: Number of heads.
        dim: Length of the vectors of a head.
        length: The most positions.
        like: Has the device and the type.
    """
    kind = Compiled if step_library.is_possible(like) else Plain
    return kind(batch, heads, dim, length, like)


class Plain:
    """By two products: on a CPU they are faster than torch's attention for one query."""

    def __init__(self, batch: int, heads: int, dim: int, length: int, like: Tensor) -> None:
        self.shape = batch, 3, heads, dim
        self.keys, self.values = (like.new_zeros(batch * heads, length, dim) for _ in range(2))

    def step(self, rows: Tensor, position: int) -> Tensor:
        batch, _, heads, dim = self.shape
        parts = rows.view(self.shape).unbind(1)
        q, k, v = (part.reshape(batch * heads, dim) for part in parts)
        self.keys[:, position], self.values[:, position] = k, v
        keys, values = self.keys[:, : position + 1], self.values[:, : position + 1]
        scores = torch.bmm(q.unsqueeze(1), keys.mT).mul_(dim**-0.5)
        return torch.bmm(scores.softmax(-1), values).view(batch, heads * dim)


class Compiled:
    """By a loop in C, several times faster: an item does not depend on the batch in any bit."""

    def __init__(self, batch: int, heads: int, dim: int, length: int, like: Tensor) -> None:
        self.batch, self.heads, self.dim = batch, heads, dim
        functions = step_library.library()
        assert functions is not None
        self.length = length
        self.attend = functions.vqkit_attend
        self.size = functions.vqkit_attend_size(length, dim)
        self.keys, self.values = (like.new_zeros(batch * heads, self.size) for _ in range(2))

    def step(self, rows: Tensor, position: int) -> Tensor:
        shape = self.batch, 3 * self.heads * self.dim
        if rows.shape != shape or not 0 <= position < self.length:
            raise ValueError(
                f"rows are {tuple(rows.shape)} at position {position}; give {shape} at a position "
                f"below {self.length}"
            )
        rows = rows.float().contiguous()
        mixed = rows.new_empty(self.batch, self.heads * self.dim)
        where = [each.data_ptr() for each in (rows, self.keys, self.values, mixed)]
        numbers = self.heads, self.dim, self.size, position

        def part(first: int, last: int) -> int:
            return self.attend(*where, *numbers, first, last, step_library.WIDEST)

        num = self.batch * self.heads
        products = num * self.dim * (position + 1)
        if failed_in_parts(part, num, products // PRODUCTS_PER_THREAD):
            raise MemoryError("no room to attend; free memory")
        return mixed
