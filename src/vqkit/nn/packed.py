"""Linear layers laid out for products with a few rows, again and again: what sampling does."""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.compiled import failed_in_parts
from vqkit.nn import step_library

WIDTH = 16  # outputs of a panel of weights, see product.c
MOST_ROWS = 64  # with more, torch is as fast
PRODUCTS_PER_THREAD = 2**20  # with fewer, handing over costs more than it saves


class PackedLinear(Protocol):
    """A copy of a linear layer, for one number of rows; equal to it but for the last bits."""

    def __call__(self, x: Tensor) -> Tensor:
        """What the layer makes of rows: (B, D in) to (B, D out)."""
        ...


def packed_linear(linear: nn.Linear, rows: int) -> PackedLinear:
    """The fastest there is for some device and type.

    A product with a few rows takes as long as reading the weights does, and how they lie in memory
    decides over a factor of two.

    Args:
        linear: Whose weights are copied; later changes are not seen.
        rows: Number of rows B that every input has.
    """
    few = 0 < rows <= MOST_ROWS
    kind = Compiled if few and step_library.is_possible(linear.weight) else Plain
    return kind(linear)


class Plain:
    """By torch, with the weights in the order that it reads fastest."""

    def __init__(self, linear: nn.Linear) -> None:
        weight, self.bias = linear.weight.detach(), linear.bias.detach().clone()
        if weight.shape[0] > weight.shape[1]:
            self.weight = weight.T.contiguous()  # many sums over few numbers: by columns
        else:
            self.weight = weight.clone().T  # and by rows where it is the other way round

    def __call__(self, x: Tensor) -> Tensor:
        return torch.addmm(self.bias, x, self.weight)


class Compiled:
    """By a loop in C: no row depends on the others in any bit."""

    def __init__(self, linear: nn.Linear) -> None:
        functions = step_library.library()
        assert functions is not None
        self.product = functions.vqkit_product
        weight = linear.weight.detach()
        self.size, self.dim = weight.shape
        self.num = -(-self.size // WIDTH)
        rest = self.num * WIDTH - self.size
        panels = F.pad(weight, (0, 0, 0, rest)).view(self.num, WIDTH, self.dim)
        self.panels = panels.transpose(1, 2).contiguous()
        self.bias = F.pad(linear.bias.detach(), (0, rest)).clone()

    def __call__(self, x: Tensor) -> Tensor:
        if x.dim() != 2 or x.shape[1] != self.dim:
            raise ValueError(f"x is {tuple(x.shape)}; give rows of {self.dim} numbers")
        x = x.float().contiguous()
        y = x.new_empty(len(x), self.size)
        where = [each.data_ptr() for each in (x, self.panels, self.bias, y)]

        def part(first: int, last: int) -> int:
            numbers = len(x), self.dim, self.size, first, last, step_library.WIDEST
            return self.product(*where, *numbers)

        products = len(x) * self.dim * self.size
        failed_in_parts(part, self.num, products // PRODUCTS_PER_THREAD)  # none can fail
        return y
