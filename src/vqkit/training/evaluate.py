"""Evaluation on held-out examples while training goes on."""

from typing import Any

import torch

from vqkit import distributed
from vqkit.data.example import Examples
from vqkit.data.loader import in_order
from vqkit.training.config import TrainConfig
from vqkit.training.meters import Meters, report
from vqkit.training.runtime import Runtime
from vqkit.training.task import Task


@torch.no_grad()
def evaluate(
    task: Task, examples: Examples, config: TrainConfig, runtime: Runtime
) -> dict[str, Any]:
    """What metrics.jsonl says of held-out examples, or of evenly spread ones of them.

    Args:
        task: In training mode, which it is again afterwards.
        examples: Held-out examples, at least one per process.
        config: Of the run.
        runtime: Where.

    Returns:
        JSON values; only those of rank 0 count.
    """
    num = min(len(examples), config.eval_items)
    chosen = [i * len(examples) // num for i in range(num)]
    size = max(1, config.batch_size // config.micro_batches // runtime.world_size)
    meters = Meters()
    task.eval()
    for batch in in_order(examples, size, indices=chosen[distributed.rank() :: runtime.world_size]):
        meters.add(task(batch.to(runtime.device), True))
    task.train()
    meters.join()
    return {"num_items": num, **report(meters, has_psnr=task.has_psnr)}
