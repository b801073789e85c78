"""Keeps the records of a run: to the file, the screen, the trackers and the health monitor."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from vqkit import distributed
from vqkit.training.clock import Clock
from vqkit.training.config import TrainConfig
from vqkit.training.health import Health, Norms
from vqkit.training.log import MetricsFile, Screen, numbers, summary
from vqkit.training.meters import MEASURE, Meters, report
from vqkit.training.optimizer import learning_rate
from vqkit.training.runtime import Runtime
from vqkit.training.task import Task

Z_E_NORM = f"{MEASURE}/z_e_norm/"


class Journal:
    """What is recorded of a run.

    Args:
        task: What is trained.
        config: How.
        runtime: On what.
        screen: What a person sees.
        folder: The run folder; None writes no file.
    """

    def __init__(
        self,
        task: Task,
        config: TrainConfig,
        runtime: Runtime,
        screen: Screen,
        folder: Path | None,
    ) -> None:
        self.task = task
        self.config = config
        self.runtime = runtime
        self.screen = screen
        self.folder = folder
        self.health = Health(settings=task.settings)
        self.clock = Clock()

    def begin(self, step: int) -> None:
        """Goes on from a step: what was written of later ones is dropped."""
        self.file = MetricsFile(self.folder, step)
        self.clock.interval()

    def state(self) -> dict[str, Any]:
        """What a resumed run has to know, as JSON values."""
        return {"health": self.health.state(), "elapsed_s": self.clock.elapsed()}

    def tensors(self) -> dict[str, Tensor]:
        """What a resumed run has to know, as tensors."""
        return self.health.windows

    def load(self, state: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        """The inverse of ``state`` and ``tensors``."""
        self.health = Health(state["health"], tensors, self.task.settings)
        self.clock = Clock(state["elapsed_s"])

    def training(self, step: int, meters: Meters) -> None:
        """Records the means of an interval; those of ``meters`` are on rank 0."""
        if not distributed.is_main():
            return
        task, config, rate = self.task, self.config, self.clock.steps_per_s()
        values = {
            "step": step,
            **report(meters, has_psnr=task.has_psnr),
            "learning_rate": learning_rate(config, step - 1),
            f"{task.unit}_per_s": rate * config.batch_size,
            "elapsed_s": self.clock.elapsed(),
        }
        troubles = self.health.follow(step, meters.stats(), self._norms(meters.means()))
        if troubles:
            values["health"] = troubles
        self.file.write(values)
        left = (config.steps - step) / max(rate, 1e-9)
        self.screen.metrics(values, task.unit, left, last=step == config.steps)
        for line in troubles:
            self.screen.say(f"health, step {step}: {line}")
        self.runtime.track(numbers(values), step)
        self.clock.interval()

    def _norms(self, means: Mapping[str, float]) -> dict[str, Norms]:
        """Norms of each level, as far as they were measured."""
        books, found = self.task.codebooks, {}
        for full, value in means.items():
            if full.startswith(Z_E_NORM):
                level = full.removeprefix(Z_E_NORM)
                book = books.get(level)
                entries = None if book is None else float(book.entries.detach().norm(dim=1).mean())
                found[level] = Norms(value, entries)
        return found

    def evaluation(self, step: int, values: Mapping[str, Any]) -> None:
        """Records an evaluation on held-out examples."""
        if distributed.is_main():
            troubles = self.health.follow_levels(step, values)
            self.file.write(
                {"step": step, "eval": values} | ({"health": troubles} if troubles else {})
            )
            self.runtime.track(numbers(values, "eval/"), step)
            text = summary(values, self.task.unit)
            self.screen.say(f"step {step}, {values['num_items']} held-out {self.task.unit}: {text}")
            for line in troubles:
                self.screen.say(f"health, step {step}: {line}")
