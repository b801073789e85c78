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
from vqkit.training.meters import MEASURE, Meters
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

STEPS_PER_CHECK = 10
"""On a GPU, where whoever reads a number waits for it; on a CPU every step is checked."""
STEPS_PER_MEASURE = 10
"""What is only logged is measured at the first step of a log interval and every so many."""


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
        self.parameters = [p for p in task.trained.parameters() if p.requires_grad]
        if not self.parameters:
            raise ValueError("the model has no trainable parameters; unfreeze some")
        groups = parameter_groups(task.trained, config.weight_decay)
        self.optimizer = make_optimizer(groups, config)
        self.average: WeightAverage | None = None
        if config.ema_decay is not None:
            self.average = WeightAverage(task.trained, config.ema_decay)
        self.module = runtime.prepare(task)
        self.meters = Meters()
        self.watch = Watch(runtime.device)
        self.stop = StopSignal()
        self.checked_counts = False
        self.last_good = "nothing was saved yet"

    def step(self, step: int, batches: Sequence[Batch]) -> int:
        """Takes one optimizer step.

        Args:
            step: Its number, counted from 0.
            batches: This rank's micro-batches.

        Returns:
            The number of the signal that asks to stop after this step, or 0.

        Raises:
            NotFiniteError: If the loss or the gradient is not finite. On a CPU no weight has moved
                then, and on a GPU nothing was saved since.
        """
        config = self.config
        self.runtime.seed(hash_int(config.seed, step, distributed.rank()))
        batches = [self.runtime.fetch(batch) for batch in batches]
        self.last_batch = batches[-1]
        parts = [self.task.counts(batch) for batch in batches]
        counts = joined(parts)
        measure = step % config.log_every % STEPS_PER_MEASURE == 0
        outputs = []
        for k, batch in enumerate(batches):
            last = k == len(batches) - 1
            with nullcontext() if last else self.runtime.without_sync(self.module):
                outputs.append(self._backward(step, batch, counts, measure))
        if not self.checked_counts:
            check_counts(parts, outputs)
            self.checked_counts = True
        norm = clip_(self.parameters, config.clip_norm)
        stop = self._check(step, outputs, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.task.commit()
        if self.average is not None:
            self.average.update(self.task.trained, step)
        self._record(outputs, norm)
        return stop

    def _backward(
        self, step: int, batch: Batch, counts: dict[str, Tensor], measure: bool
    ) -> StepOutput:
        """Adds the gradient of one micro-batch: its share of that of the whole step."""
        with noise(self.config.seed, step, batch.positions):
            out: StepOutput = self.module(batch, measure)
            if out.objectives.keys() != counts.keys():
                names = f"{sorted(out.objectives)}, its counts has {sorted(counts)}"
                raise ValueError(f"the task's forward has objectives {names}; make them equal")
            parts = [m.total / counts[name].clamp(min=1) for name, m in out.objectives.items()]
            # DDP averages gradients over ranks, and the counts are sums over ranks already.
            loss = torch.stack(parts).sum() * self.runtime.world_size
            loss.backward()
        objectives = {name: Mean(m.total.detach(), m.count) for name, m in out.objectives.items()}
        return StepOutput(objectives, out.terms, out.usage, out.measures)

    def _check(self, step: int, outputs: Sequence[StepOutput], norm: Tensor) -> int:
        """Raises when something was not finite; returns the signal that asks to stop, or 0."""
        values = {
            name: torch.stack([out.objectives[name].total for out in outputs]).sum()
            for name in outputs[0].objectives
        }
        self.watch.see(step, {**values, GRADIENT: norm})
        on_cpu = self.runtime.device.type == "cpu"
        if on_cpu or (step + 1) % STEPS_PER_CHECK == 0 or self._is_read(step + 1):
            number, bad_step, terms = self.watch.agree(self.stop)
            if bad_step is not None:
                raise NotFiniteError(bad_step + 1, terms, self.last_good)
            return number
        return 0

    @torch.no_grad()
    def check_trained(self, step: int) -> None:
        """Looks at the model as it is after so many steps; every rank must call it.

        Raises:
            NotFiniteError: If its loss on the last batch is not finite.
        """
        self.task.eval()
        totals = {name: mean.total for name, mean in self.task(self.last_batch).objectives.items()}
        self.task.train()
        bad = distributed.all_reduce((~torch.stack(list(totals.values())).isfinite()).long())
        terms = tuple(name for name, num in zip(totals, bad.tolist(), strict=True) if num)
        if terms:
            raise NotFiniteError(step, terms, self.last_good)

    def _is_read(self, step: int) -> bool:
        """Whether something is logged, evaluated or saved after so many steps."""
        config = self.config
        everies = [config.log_every, config.checkpoint_every, config.eval_every]
        due = any(step % every == 0 for every in everies if every is not None)
        return due or step == config.steps

    def _record(self, outputs: Sequence[StepOutput], norm: Tensor) -> None:
        for out in outputs:
            self.meters.add(out)
        one = torch.ones((), dtype=torch.int64, device=norm.device)
        self.meters.add_means({f"{MEASURE}/grad_norm": Mean(norm, one)})


def joined(parts: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    """The counts of the objectives over all micro-batches of all ranks. Each ()"""
    table = torch.stack([torch.stack(list(part.values())) for part in parts])
    return dict(zip(parts[0], distributed.all_reduce(table.sum(0)), strict=True))


def check_counts(parts: Sequence[dict[str, Tensor]], outputs: Sequence[StepOutput]) -> None:
    """Raises ValueError unless the counts that a task foretold are those that came."""
    for part, out in zip(parts, outputs, strict=True):
        for name, mean in out.objectives.items():
            if int(part[name]) != int(mean.count):
                raise ValueError(
                    f"the task's counts says {int(part[name])} for {name}, and its forward counted "
                    f"{int(mean.count)}; make them equal, or the gradient is wrong"
                )
