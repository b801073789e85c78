"""Integers that are given, to be completed by a prior."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.priors.slots import describe


@dataclass(frozen=True, slots=True)
class Known:
    """Which integers of the items to be drawn are known.

    Attributes:
        flat: The integers, in the order of ``Codes.flat``; anything where unknown. (B, L) int64
        mask: True where known. (B, L) bool
    """

    flat: Tensor
    mask: Tensor

    @classmethod
    def nothing(cls, num: int, length: int, device: torch.device) -> "Known":
        """No integer of ``num`` items."""
        flat = torch.zeros(num, length, dtype=torch.int64, device=device)
        return cls(flat, torch.zeros_like(flat, dtype=torch.bool))

    @classmethod
    def of(cls, codes: Codes, specs: Sequence[LevelSpec], num: int) -> "Known":
        """Those of masked codes: known where the mask is True.

        Raises:
            ValueError: If they are of other levels, another number of items, or have no masks.
        """
        if codes.specs != tuple(specs):
            shapes = f"{describe(codes.specs)}, the prior is for {describe(specs)}"
            raise ValueError(f"known codes have levels {shapes}; give those of the same tokenizer")
        if len(codes) != num:
            raise ValueError(f"known codes have {len(codes)} items; give one for each of {num}")
        mask = codes.flat_mask()
        if mask is None:
            raise ValueError(
                "known codes have no mask, so that nothing is left to draw; give Levels with "
                "masks that are True where a position is known"
            )
        return cls(codes.flat().masked_fill(~mask, 0), mask)

    def begins(self, order: Tensor) -> bool:
        """Whether no known integer comes after an unknown one.

        Args:
            order: Slots in the order in which they are drawn. (L,) int64
        """
        known = self.mask[:, order]
        return not (known[:, 1:] & ~known[:, :-1]).any()
