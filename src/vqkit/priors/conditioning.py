"""What a prior may be told about the items."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Conditioning:
    """What is known of each item besides its codes.

    Attributes:
        labels: Class of each item, at least 0; None when there are none. (B,) int64
    """

    labels: Tensor | None = None
