"""Attention of positions to each other, and to a memory."""

import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention(nn.Module):
    """Multi-head attention of positions to each other.

    Attention Is All You Need, section 3.2, https://arxiv.org/abs/1706.03762.

    Args:
        width: Length D of the vectors, a multiple of ``heads``.
        heads: Number of heads.
        causal: Whether each position sees only itself and those before it; else it sees all.

    Raises:
        ValueError: If the heads do not divide the width.
    """

    def __init__(self, width: int, heads: int, *, causal: bool = True) -> None:
        super().__init__()
        if heads < 1 or width % heads:
            raise ValueError(f"width is {width}, heads {heads}; make width a multiple of heads")
        self.heads, self.causal = heads, causal
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """All positions at once.

        Args:
            x: Vectors. (B, L, D)
            visible: Which positions are seen by others, at least one of each item; None for all.
                Not of causal attention. (B, L) bool

        Returns:
            (B, L, D)
        """
        q, k, v = self.queries_keys_values(x).unflatten(-1, (3, self.heads, -1)).unbind(2)
        mask = None if visible is None else visible[:, None, None, :]
        mixed = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=self.causal,
        )
        return self.output(mixed.transpose(1, 2).flatten(2))


class CrossAttention(nn.Module):
    """Multi-head attention of positions to a memory.

    Attention Is All You Need, section 3.2.3, https://arxiv.org/abs/1706.03762.

    Args:
        width: Length D of the vectors, a multiple of ``heads``.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.queries = nn.Linear(width, width)
        self.keys_values = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)

    def project(self, memory: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of a memory (B, M, D). Each (B, heads, M, D / heads)"""
        k, v = self.keys_values(memory).unflatten(-1, (2, self.heads, -1)).unbind(2)
        return k.transpose(1, 2), v.transpose(1, 2)

    def forward(self, x: Tensor, keys: Tensor, values: Tensor, real: Tensor) -> Tensor:
        """What positions read.

        Args:
            x: Vectors. (B, L, D)
            keys: As ``project`` gives them. (B, heads, M, D / heads)
            values: As ``project`` gives them. (B, heads, M, D / heads)
            real: Which of the memory is real, at least one of each item. (B, M) bool

        Returns:
            (B, L, D)
        """
        q = self.queries(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        mixed = F.scaled_dot_product_attention(q, keys, values, attn_mask=real[:, None, None, :])
        return self.output(mixed.transpose(1, 2).flatten(2))
