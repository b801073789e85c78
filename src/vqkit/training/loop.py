"""One optimizer step: exact for any split into processes and micro-batches."""

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor

from vqkit import distributed
from vqkit.data.batch import Batch
from vqkit.means import Mean
from vqkit.nn.dropout import noise
from vqkit.random import hash_int
from vqkit.training.config import TrainConfig
from vqkit.training.log import Meters
from vqkit.training.optimizer import (
    WeightAverage,
    clip_,
    learning_rate,
    make_optimizer,
    parameter_groups,
)
from vqkit.training.runtime import Runtime
from vqkit.training.stop import GRADIENT, NotFiniteError, StopSignal, Watch
from vqkit.training.task import StepOutput, Task

STEPS_PER_CHECK = 10  # on a GPU, where each look at a number waits for it
STEPS_PER_MEASURE = 10


class Trainer:
    """Takes the steps of a run.

    Args:
        task: What is trained, on the device of the runtime.
        config: How.
        runtime: On what.

    Raises:
        ValueError: If the task has nothing to train.
    """

    def __init__(self, task: Task, config: TrainConfig, runtime: Runtime) -> None:
        self.task = task
        self.config = config
        self.runtime = runtime
        self.parameters = [p for p in task.model.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("the model has no trainable parameters; unfreeze some")
        books = task.codebooks.values()
        groups = parameter_groups(task.model, config.weight_decay, books)
        self.optimizer = make_optimizer(groups, config)
        self.average: WeightAverage | None = None
        if config.ema_decay is not None:
            self.average = WeightAverage(task.model, config.ema_decay)
        self.module = runtime.prepare(task)
        self.meters = Meters()
        self.watch = Watch(runtime.device)
        self.stop = StopSignal()
        self.last_good = "nothing was saved yet"

    def step(self, step: int, batches: Sequence[Batch]) -> int:
        """Takes one optimizer step.

        Args:
            step: Its number, counted from 0.
            batches: This rank's micro-batches.

        Returns:
            The number of the signal that asks to stop after this step, or 0.

        Raises:
            NotFiniteError: If the loss or the gradient is not finite; no weight has moved then on a
                CPU, and on a GPU nothing was saved since.
        """
        config, device = self.config, self.runtime.device
        torch.manual_seed(hash_int(config.seed, step, distributed.rank()))
        batches = [batch.to(device, non_blocking=True) for batch in batches]
        sums = self._joined_counts(batches)
        in_interval = step % config.log_every
        outputs = []
        for k, batch in enumerate(batches):
            measure = in_interval % STEPS_PER_MEASURE == 0
            last = k == len(batches) - 1
            with nullcontext() if last else self.runtime.without_sync(self.module):
                outputs.append(self._backward(step, batch, sums, measure))
        norm = clip_(self.parameters, config.clip_norm)
        stop = self._check(step, outputs, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.task.commit()
        if self.average is not None:
            self.average.update(self.task.model, step)
        self.meters.add({"grad_norm": Mean(norm, torch.ones_like(norm, dtype=torch.int64))})
        return stop

    def _joined_counts(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """The counts of the objectives over all ranks and micro-batches of the step. Each ()"""
        parts = [self.task.counts(batch) for batch in batches]
        joined = torch.stack([torch.stack(list(part.values())) for part in parts]).sum(0)
        return dict(zip(parts[0], distributed.all_reduce(joined), strict=True))

    def _backward(
        self, step: int, batch: Batch, sums: dict[str, Tensor], measure: bool
    ) -> StepOutput:
        """Adds the gradient of one micro-batch: its share of that of the whole step."""
        with noise(self.config.seed, step, batch.positions):
            out: StepOutput = self.module(batch, measure)
            if out.objectives.keys() != sums.keys():
                names = f"{sorted(out.objectives)}, counts has {sorted(sums)}"
                raise ValueError(f"the task's forward has objectives {names}; make them equal")
            parts = [m.total / sums[name].clamp(min=1) for name, m in out.objectives.items()]
            # DDP averages gradients over ranks, but the counts are sums over ranks.
            loss = torch.stack(parts).sum() * self.runtime.world_size
            loss.backward()
        objectives = {name: Mean(m.total.detach(), m.count) for name, m in out.objectives.items()}
        out = StepOutput(objectives, out.logs, out.usage)
        measured = {name: m for name, m in out.logs.items() if name in self.task.measured}
        logs = {name: m for name, m in out.logs.items() if name not in measured}
        self.meters.add({f"objective/{name}": m for name, m in objectives.items()})
        self.meters.add(logs)
        self.meters.add(measured)
        self.meters.count(dict(zip(self.task.usage_names, out.usage, strict=True)))
        return out

    def _check(self, step: int, outputs: Sequence[StepOutput], norm: Tensor) -> int:
        """Raises when something was not finite; returns the signal that asks to stop, or 0."""
        values = {
            name: torch.stack([out.objectives[name].total for out in outputs]).sum()
            for name in outputs[0].objectives
        }
        self.watch.see(step, {**values, GRADIENT: norm})
        on_cpu = self.runtime.device.type == "cpu"
        if on_cpu or (step + 1) % STEPS_PER_CHECK == 0 or self._at_boundary(step + 1):
            number, bad_step, terms = self.watch.agree(self.stop)
            if bad_step is not None:
                raise NotFiniteError(bad_step + 1, terms, self.last_good)
            return number
        return 0

    def _at_boundary(self, step: int) -> bool:
        config = self.config
        everies = (config.log_every, config.checkpoint_every, config.eval_every or step + 1)
        return step == config.steps or any(step % every == 0 for every in everies)
