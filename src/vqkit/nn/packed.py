"""Linear layers laid out for products with a few rows, again and again: what sampling does."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PackedLinear:
    """A copy of a linear layer, for one shape of inputs; equal to it but for the last bits.

    A product with a few rows takes as long as reading the weights does, and how they lie in memory
    decides over a factor of two. On other devices and types it is the plain product.

    Args:
        linear: Whose weights are copied; later changes are not seen.
        rows: Number of rows B that every input has.
    """

    def __init__(self, linear: nn.Linear, rows: int) -> None:
        weight, self.bias = linear.weight.detach(), linear.bias.detach().clone()
        self.plain = self.packed = None
        if rows > 1 and can_pack(weight):
            self.packed = torch.ops.mkldnn._reorder_linear_weight(weight.clone(), rows)
        elif weight.shape[0] > weight.shape[1]:
            self.plain = weight.T.contiguous()  # many sums over few numbers: by columns
        else:
            self.plain = weight.clone().T  # and by rows where it is the other way round

    def __call__(self, x: Tensor) -> Tensor:
        """What the layer makes of rows: (B, D in) to (B, D out)."""
        if self.plain is not None:
            return torch.addmm(self.bias, x, self.plain)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")

    def gelu(self, x: Tensor) -> Tensor:
        """The same behind a GELU."""
        if self.plain is not None:
            return F.gelu(torch.addmm(self.bias, x, self.plain))
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "gelu", [], "none")


def can_pack(weight: Tensor) -> bool:
    """Whether oneDNN has its own layout for weights (D out, D in) here."""
    return (
        weight.device.type == "cpu"
        and weight.dtype == torch.float32
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
    )
