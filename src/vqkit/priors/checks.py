"""What priors refuse: codes of others, and ways of drawing that they do not have."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from vqkit.codes import Codes, LevelSpec
from vqkit.drawing import Drawing
from vqkit.priors.slots import describe

if TYPE_CHECKING:
    from vqkit.priors.base import Prior


def checked_codes(codes: Codes, specs: Sequence[LevelSpec], slot_sizes: Tensor) -> Tensor:
    """The integers of codes in a row, 0 where masked. (B, L) int64

    Raises:
        ValueError: If the levels are others than those of ``specs``, or an index is no entry.
    """
    if codes.specs != tuple(specs):
        shapes = f"{describe(codes.specs)}, the prior is for {describe(specs)}"
        raise ValueError(f"codes have levels {shapes}; use those of the same tokenizer")
    flat, mask = codes.flat(), codes.flat_mask()
    if mask is not None:
        flat = flat.masked_fill(~mask, 0)
    return checked_integers(flat, slot_sizes)


def checked_integers(flat: Tensor, slot_sizes: Tensor) -> Tensor:
    """The same integers (B, L) as int64; raises ValueError if one is no entry of its codebook."""
    if flat.is_floating_point() or flat.dtype == torch.bool:
        raise ValueError(f"codes are {flat.dtype}; give integers, indices of entries")
    flat = flat.long()
    wrong = (flat < 0) | (flat >= slot_sizes)
    if wrong.any():
        row, slot = wrong.nonzero()[0].tolist()
        size = int(slot_sizes[slot])
        raise ValueError(
            f"codes hold index {int(flat[row, slot])} at item {row}, slot {slot}; "
            f"its codebook has entries 0 to {size - 1}"
        )
    return flat


def check_drawing(prior: "Prior", how: Drawing) -> None:
    """Raises ValueError if a prior cannot draw in such a way."""
    learned = any(True for _ in prior.parameters())  # what is counted has nothing to drop
    never = prior.needs_conditioning or prior.conditioning.is_empty or not learned
    if how.guidance != 1 and never:
        fix = "leave it at 1"
        if not prior.conditioning.is_empty and learned:
            fix = "train the prior with drop_conditioning=0.1, or leave it at 1"
        raise ValueError(
            f"guidance is {how.guidance}, but the prior never learned the codes without "
            f"conditioning beside those with it; {fix}"
        )
    if how.steps is not None:
        prior.check_steps(how.steps)
