"""Functions of many rows, computed for a few rows at a time, forward and backward."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

Function = Callable[..., tuple[Tensor, ...]]


def in_chunks(
    function: Function,
    rows: Sequence[Tensor],
    others: Sequence[Tensor],
    num: int,
    *,
    num_sums: int = 0,
) -> tuple[Tensor, ...]:
    """What a function gives for all rows; what is in between is made anew in the backward pass.

    Args:
        function: Of some of the rows and of all the others. It returns a row for each, then sums
            over them that have no gradient, and draws none of torch's random numbers.
        rows: What is given in parts. Each (N, ...)
        others: What each call is given whole.
        num: The most rows of a part.
        num_sums: How many of the last results are sums over rows.

    Returns:
        The results for all rows.
    """
    size, rows = len(rows[0]), tuple(rows)
    if size > num and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        arguments = (function, num, num_sums, len(rows), *rows, *others)
        return _InChunks.apply(*arguments)  # pyright: ignore[reportReturnType]
    parts = []
    for first in range(0, max(1, size), num):
        some = *(x[first : first + num] for x in rows), *others
        if torch.is_grad_enabled():
            options: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": False}
            parts.append(checkpoint(function, *some, **options))
        else:
            parts.append(function(*some))
    results = list(zip(*parts, strict=True))
    edge = len(results) - num_sums
    whole = [_joined(some) for some in results[:edge]]
    return *whole, *(torch.stack(some).sum(0) for some in results[edge:])


def _joined(parts: Sequence[Tensor]) -> Tensor:
    """Several parts as one tensor."""
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


class _InChunks(torch.autograd.Function):
    """What ``checkpoint`` would do part after part, with nothing kept of any.

    Small tensors that outlive a part come to lie where its large ones were, which then find no
    place there again: with thousands of parts, gigabytes of holes.
    """

    @staticmethod
    def forward(ctx: Any, *arguments: Any) -> tuple[Tensor, ...]:
        function, num, num_sums, num_rows, *given = arguments
        ctx.save_for_backward(*given)
        ctx.how = function, num, num_sums, num_rows
        size, results = len(given[0]), []
        for rows in _parts(size, num):
            found = function(*(x[rows] for x in given[:num_rows]), *given[num_rows:])
            num_wholes = len(found) - num_sums
            if not results:
                results = [x.new_empty(size, *x.shape[1:]) for x in found[:num_wholes]]
                results += [torch.zeros_like(x) for x in found[num_wholes:]]
            for place, (whole, part) in enumerate(zip(results, found, strict=True)):
                if place < num_wholes:
                    whole[rows] = part
                else:
                    whole += part
        sums = results[len(results) - num_sums :]
        integers = [x for x in results if not x.is_floating_point()]
        ctx.mark_non_differentiable(*integers, *sums)
        ctx.set_materialize_grads(False)
        return tuple(results)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:  # pyright: ignore
        function, num, _, num_rows = ctx.how
        given = ctx.saved_tensors
        needed = ctx.needs_input_grad[-len(given) :]
        totals = [
            torch.zeros_like(x) if need else None for x, need in zip(given, needed, strict=True)
        ]
        for rows in _parts(len(given[0]), num):
            leaves = [x[rows] for x in given[:num_rows]] + list(given[num_rows:])
            leaves = [x.detach().requires_grad_(n) for x, n in zip(leaves, needed, strict=True)]
            with torch.enable_grad():
                results = function(*leaves)
            pairs = zip(results, gradients, strict=True)
            outputs, upstream = zip(*((x, g[rows]) for x, g in pairs if g is not None), strict=True)
            wanted = [leaf for leaf in leaves if leaf.requires_grad]
            found = iter(torch.autograd.grad(outputs, wanted, upstream, allow_unused=True))
            for place, total in enumerate(totals):
                if total is not None and (part := next(found)) is not None:
                    (total[rows] if place < num_rows else total).add_(part)
        return None, None, None, None, *totals


def _parts(size: int, num: int) -> list[slice]:
    """All rows, some at a time."""
    return [slice(first, first + num) for first in range(0, size, num)]
