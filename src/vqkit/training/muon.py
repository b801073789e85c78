"""Muon: momentum whose matrices are made orthogonal, for convolutions and linear layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

MOMENTUM = 0.95
STEPS = 5  # of Newton-Schulz
FACTORS = (3.4445, -4.7750, 2.0315)  # of x, x^3 and x^5; they pull singular values to about 1
RMS = 0.2  # root mean square of an update, about that of Adam's


class Muon(torch.optim.AdamW):
    """AdamW, whose groups with ``matrices=True`` move by orthogonal matrices instead.

    All directions of a weight matrix then learn at one rate, also those whose gradient is small.
    https://kellerjordan.github.io/posts/muon, with the scale of https://arxiv.org/abs/2502.16982,
    equation 4, by which one learning rate suits both kinds of groups. A convolution kernel
    (O, I, ...) is a matrix O x (I ...).

    Args:
        groups: Parameter groups; those with ``matrices=True`` hold parameters of two or more axes.
        lr: Learning rate.
        betas: Adam's, for the other groups.
    """

    def __init__(self, groups: list[dict], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, lr=lr, betas=betas, fused=True)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        groups = self.param_groups
        self.param_groups = [group for group in groups if not group.get("matrices")]
        try:
            loss = super().step(closure)
        finally:
            self.param_groups = groups
        for group in groups:
            for parameter in group["params"] if group.get("matrices") else ():
                if parameter.grad is not None:
                    self._move(parameter, parameter.grad, group["lr"], group["weight_decay"])
        return loss

    def _move(self, parameter: Tensor, gradient: Tensor, rate: float, weight_decay: float) -> None:
        """Moves one weight matrix by the orthogonal part of its Nesterov momentum."""
        state = self.state[parameter]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        update = orthogonal(gradient.lerp(state["momentum"], MOMENTUM).flatten(1))
        scale = RMS * max(update.shape) ** 0.5
        parameter.mul_(1 - rate * weight_decay)
        parameter.sub_(update.view(parameter.shape), alpha=rate * scale)


def orthogonal(x: Tensor) -> Tensor:
    """A matrix of the same singular vectors, with singular values of 0.7 to 1.2.

    Newton-Schulz steps y = p(x x^T) x. Products of such steps are polynomials of x x^T times x, so
    all but the last product are of the smaller side alone.

    Args:
        x: A matrix, not 0. (M, N)

    Returns:
        (M, N)
    """
    if x.shape[0] > x.shape[1]:
        return orthogonal(x.T).T
    x = x / x.norm().clamp(min=torch.finfo(x.dtype).tiny)
    first, third, fifth = FACTORS
    gram = x @ x.T
    product = torch.eye(len(x), dtype=x.dtype, device=x.device)
    for _ in range(STEPS):
        factor = torch.addmm(third * gram, gram, gram, alpha=fifth)
        factor.diagonal().add_(first)
        product = factor @ product
        gram = factor @ gram @ factor
    return product @ x
