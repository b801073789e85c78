"""Fills a reservoir before step 0, from which codebooks and objectives start."""

import math
from collections.abc import Sequence

import torch

from vqkit import distributed
from vqkit.data.batch import Batch
from vqkit.data.example import Examples
from vqkit.data.loader import in_order
from vqkit.random import generator, hash_int
from vqkit.training.config import TrainConfig
from vqkit.training.runtime import Runtime
from vqkit.training.task import Task

VECTORS_PER_ENTRY = 64
MIN_BATCHES = 8
MAX_VECTORS = 2**18
PURPOSE = 1
"""A word of the hash that keeps these random numbers apart from those of training."""


def initialize(
    task: Task,
    examples: Examples,
    config: TrainConfig,
    runtime: Runtime,
    *,
    everything: bool = False,
) -> None:
    """Lets the task start from data, seen through its untrained networks.

    The reservoir is a pure function of the seed, whatever the number of processes, and a run that
    was killed before its first checkpoint fills the same one again.

    Args:
        task: Whose ``initialize`` is called.
        examples: The training data.
        config: Of the run.
        runtime: Where.
        everything: Whether all examples are seen, as far as there is room for their vectors.
    """
    order = torch.randperm(len(examples), generator=generator(config.seed, PURPOSE)).tolist()
    size = config.batch_size // config.micro_batches
    seen = _vectors_per_item(task, _batches(examples, order[:size], size, config, runtime)[0])
    needs = [(len(book.entries), seen[name]) for name, book in task.codebooks.items()]
    wanted = num_items(needs, config.batch_size)
    if everything:
        wanted = math.ceil(MAX_VECTORS / max([1.0, *seen.values()]))
    num_batches = max(1, min(wanted, len(order)) // size)
    batches = _batches(examples, order[: num_batches * size], size, config, runtime)
    task.train()
    task.initialize(batches, hash_int(config.seed, PURPOSE))


def num_items(needs: Sequence[tuple[int, float]], batch_size: int) -> int:
    """How many items fill the reservoir.

    Args:
        needs: For each codebook its number of entries, and how many vectors an item gives it.
        batch_size: Items of the global batch.

    Returns:
        Enough for ``VECTORS_PER_ENTRY`` vectors per entry, but no more than ``MAX_VECTORS``; at
        least ``MIN_BATCHES`` batches.
    """
    least = MIN_BATCHES * batch_size
    needs = [(entries, vectors) for entries, vectors in needs if vectors > 0]
    if not needs:
        return least
    wanted = max(math.ceil(VECTORS_PER_ENTRY * entries / vectors) for entries, vectors in needs)
    return max(least, min(wanted, *(math.ceil(MAX_VECTORS / vectors) for _, vectors in needs)))


def _batches(
    examples: Examples, items: Sequence[int], size: int, config: TrainConfig, runtime: Runtime
) -> list[Batch]:
    """This rank's part of the items: the same part of each batch, as in training."""
    rank, world = distributed.rank(), runtime.world_size
    size = min(size, len(items))
    first, end = size * rank // world, size * (rank + 1) // world
    mine = [i for start in range(0, len(items), size) for i in items[start + first : start + end]]
    batches = in_order(examples, end - first, indices=mine, num_workers=config.num_workers)
    return [batch.to(runtime.device) for batch in batches]


@torch.no_grad()
def _vectors_per_item(task: Task, batch: Batch) -> dict[str, float]:
    """How many vectors an item gives each codebook, on average over a batch of all ranks."""
    task.eval()
    usage = task(batch).usage
    sums = [counts.sum() for counts in usage.values()]
    num = torch.tensor(len(batch), device=batch.x.device)
    *sums, num = distributed.all_reduce(torch.stack([*sums, num])).tolist()
    return {name: total / num for name, total in zip(usage, sums, strict=True)}
