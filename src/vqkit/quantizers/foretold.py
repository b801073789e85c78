"""A gradient that says what the scores of positions should have been."""

from typing import Any

import torch
from torch import Tensor


class Foretold(torch.autograd.Function):
    """``z_q`` itself; its gradient says what the scores should have been."""

    @staticmethod
    def forward(
        ctx: Any, z_q: Tensor, scores: Tensor, gains: Tensor, unit: Tensor, pending: Tensor
    ) -> Tensor:
        ctx.save_for_backward(scores, gains, unit)
        ctx.pending = pending  # not saved, since a commit may come before the backward pass
        return z_q.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore
        scores, gains, unit = ctx.saved_tensors
        saved = -(gradient * gains).sum(-1)  # by which the loss would fall; 0 where one is kept
        left_out = gains.any(-1)
        ctx.pending += torch.stack([saved.square().sum(), left_out.sum()])
        return gradient, (unit * scores - saved) * left_out, None, None, None
