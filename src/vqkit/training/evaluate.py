"""Evaluation on held-out examples while training goes on."""

from typing import Any

import torch

from vqkit import distributed
from vqkit.data.example import Examples
from vqkit.data.loader import in_order
from vqkit.training.config import TrainConfig
from vqkit.training.log import Meters, psnr, usage_summary
from vqkit.training.runtime import Runtime
from vqkit.training.task import Task

OBJECTIVE = "objective/"


@torch.no_grad()
def evaluate(
    task: Task, examples: Examples, config: TrainConfig, runtime: Runtime
) -> dict[str, Any]:
    """What metrics.jsonl says of the held-out examples, or of evenly spread ones of them.

    Args:
        task: In training mode, which it is again afterwards.
        examples: Held-out examples, at least one per process.
        config: Of the run.
        runtime: Where.

    Returns:
        JSON values, on rank 0.
    """
    num = min(len(examples), config.eval_items)
    chosen = [i * len(examples) // num for i in range(num)]
    rank, world = distributed.rank(), distributed.world_size()
    size = max(1, config.batch_size // config.micro_batches // world)
    meters = Meters()
    task.eval()
    for batch in in_order(examples, size, indices=chosen[rank::world]):
        out = task(batch.to(runtime.device), True)
        add(meters, task, out)
    task.train()
    meters.join()
    return {"num_items": num, **report(meters)}


def add(meters: Meters, task: Task, out: Any) -> None:
    """Adds what a task computed for a micro-batch to running means."""
    meters.add({f"{OBJECTIVE}{name}": mean for name, mean in out.objectives.items()})
    measured = {name: mean for name, mean in out.logs.items() if name in task.measured}
    meters.add({name: mean for name, mean in out.logs.items() if name not in measured})
    meters.add(measured)
    meters.count(dict(zip(task.usage_names, out.usage, strict=True)))


def report(meters: Meters) -> dict[str, Any]:
    """Running means as metrics.jsonl says them, on rank 0."""
    means = meters.means()
    objectives = {
        name.removeprefix(OBJECTIVE): value
        for name, value in means.items()
        if name.startswith(OBJECTIVE)
    }
    others = {name: value for name, value in means.items() if not name.startswith(OBJECTIVE)}
    values: dict[str, Any] = {"loss": sum(objectives.values()), "terms": objectives | others}
    if "mse" in others:
        values["psnr"] = psnr(others["mse"])
    return values | usage_summary(meters.stats())
