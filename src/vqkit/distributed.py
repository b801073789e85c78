"""All that the package knows of other processes; alone, each function does nothing.

Every collective here must be reached by all ranks, whatever their data, in the same order.
"""

from typing import TypeVar

import torch
from torch import Tensor
from torch import distributed as dist

T = TypeVar("T")


def is_distributed() -> bool:
    """Whether a process group of more than one process is up; asked anew at each call."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def rank() -> int:
    """This process's number, 0 when alone."""
    return dist.get_rank() if is_distributed() else 0


def world_size() -> int:
    """The number of processes, 1 when alone."""
    return dist.get_world_size() if is_distributed() else 1


def is_main() -> bool:
    """Whether this process is the one that writes files and prints."""
    return rank() == 0


def all_reduce(x: Tensor) -> Tensor:
    """The sum of ``x`` over all ranks, in place.

    Args:
        x: Of the same shape on every rank; no gradient passes. (...)

    Returns:
        ``x`` itself.
    """
    if is_distributed():
        dist.all_reduce(x)
    return x


def all_gather(x: Tensor) -> Tensor:
    """``x`` of all ranks, in the order of ranks.

    Args:
        x: Of the same shape on every rank. (...)

    Returns:
        A new leading axis of the ranks. (R, ...)
    """
    if not is_distributed():
        return x.unsqueeze(0)
    parts = [
        torch.empty_like(x, memory_format=torch.contiguous_format) for _ in range(world_size())
    ]
    dist.all_gather(parts, x.contiguous())
    return torch.stack(parts)


def gather_rows(x: Tensor) -> Tensor:
    """The rows of all ranks one after another; ranks may have unequal numbers of rows, or none.

    Args:
        x: Rows. (N, ...)

    Returns:
        The rows of rank 0, then of rank 1, and so on. (N of all, ...)
    """
    if not is_distributed():
        return x
    counts = all_gather(torch.tensor(len(x), device=x.device)).tolist()
    padded = x.new_zeros(max(counts), *x.shape[1:])
    padded[: len(x)] = x
    parts = all_gather(padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def rows_before(counts: Tensor) -> tuple[Tensor, Tensor]:
    """How many rows the lower ranks hold, where this rank's own begin, and how many all hold.

    Args:
        counts: Numbers of rows of this rank. (...) int64

    Returns:
        Those of the lower ranks, and of all. (...), (...) int64
    """
    gathered = all_gather(counts)
    return gathered[: rank()].sum(0), gathered.sum(0)


def broadcast_object(value: T) -> T:
    """The value of rank 0, on every rank."""
    if not is_distributed():
        return value
    box = [value]
    dist.broadcast_object_list(box)
    return box[0]


def barrier() -> None:
    """Waits until every rank is here."""
    if is_distributed():
        dist.barrier()
