"""``fit``: a whole run, from the first batch to the saved model, resumed where it was left."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor, nn

from vqkit import distributed, storage
from vqkit.autoencoder import VQVAE
from vqkit.data.example import Examples
from vqkit.data.loader import Loader
from vqkit.data.sampler import StatelessSampler
from vqkit.priors import Prior
from vqkit.training import finish, prior
from vqkit.training.autoencoder import AutoencoderTask
from vqkit.training.checkpoint import Checkpoint, Checkpoints
from vqkit.training.clock import Clock
from vqkit.training.config import TrainConfig
from vqkit.training.evaluate import evaluate, report
from vqkit.training.health import Health, Norms
from vqkit.training.initialize import initialize
from vqkit.training.log import MetricsFile, Screen, numbers, summary
from vqkit.training.loop import Trainer
from vqkit.training.optimizer import learning_rate, load_optimizer, optimizer_tensors
from vqkit.training.resume import check_same, identity, lock
from vqkit.training.runtime import Runtime, on_main, open_runtime, share_state
from vqkit.training.stop import Stopped
from vqkit.training.task import Task

Model = TypeVar("Model", bound=nn.Module)


def fit(
    model: Model,
    examples: Examples,
    config: TrainConfig | None = None,
    *,
    folder: str | Path | None = None,
    eval_examples: Examples | None = None,
) -> Model:
    """Trains a model, or goes on with a run that was stopped, killed or given more steps.

    Args:
        model: A ``VQVAE``, a ``Prior`` whose examples are flat codes, or a ``Task`` of your own;
            trained in place.
        examples: Training data.
        config: How to train; the defaults when None.
        folder: The run folder, for checkpoints, metrics and the trained model. With the same one,
            the same call goes on from the last checkpoint. None keeps nothing.
        eval_examples: Held-out examples to evaluate on now and then.

    Returns:
        The model, trained and in evaluation mode.

    Raises:
        ValueError: If the arguments do not fit each other, the data or the folder.
        NotFiniteError: If the loss or the gradient is NaN or infinite.
        OSError: If there is no room on disk, or another process trains in the folder.
        Stopped: After SIGINT (Ctrl-C) or SIGTERM, at the end of the step.
    """
    config = config or TrainConfig()
    path = None if folder is None else Path(folder)
    task = task_of(model)
    with open_runtime(config, path) as runtime, lock(path), task.attached(config):
        Run(task, examples, config, runtime, path, eval_examples).go()
    model.eval()
    return model


def task_of(model: nn.Module) -> Task:
    """How to train a model.

    Raises:
        TypeError: If it is none of those that can be trained.
    """
    if isinstance(model, Task):
        return model
    if isinstance(model, VQVAE):
        return AutoencoderTask(model)
    if isinstance(model, Prior):
        return prior.PriorTask(model)
    raise TypeError(f"model is a {type(model).__name__}; give a VQVAE, a Prior or a Task")


class Run:
    """One call of ``fit``.

    Args:
        task: What is trained.
        examples: Training data.
        config: How.
        runtime: On what.
        folder: The run folder; None keeps nothing.
        eval_examples: Held-out examples; None evaluates nothing.
    """

    def __init__(
        self,
        task: Task,
        examples: Examples,
        config: TrainConfig,
        runtime: Runtime,
        folder: Path | None,
        eval_examples: Examples | None,
    ) -> None:
        self.task = task
        self.examples = examples
        self.eval_examples = eval_examples
        self.config = config
        self.runtime = runtime
        self.folder = folder
        self.identity = identity(task, examples, config)
        self.checkpoints = None if folder is None else Checkpoints(folder, config.keep_checkpoints)
        self.screen = Screen(config.progress, config.steps)
        self.health = Health()

    def go(self) -> None:
        """Trains what is left to train."""
        self.task.to(self.runtime.device)
        share_state(self.task.model)
        checkpoint = self.find()
        if self.is_finished(checkpoint):
            return
        if checkpoint is None:
            initialize(self.task, self.examples, self.config, self.runtime)
        else:
            load_model(self.task.model, checkpoint)
        self.trainer = Trainer(self.task, self.config, self.runtime)
        self.clock = Clock()
        if checkpoint is not None:
            self.restore(checkpoint)
        first = 0 if checkpoint is None else checkpoint.step
        self.metrics = MetricsFile(self.folder if distributed.is_main() else None, first)
        with self.screen.open(first), self.trainer.stop.caught():
            self.steps(first)
        self.end(max(first, self.config.steps))

    def find(self) -> Checkpoint | None:
        """The checkpoint to go on from, on every rank; it is one of this same run."""
        checkpoints = self.checkpoints
        if checkpoints is None:
            return None

        def look() -> Checkpoint | None:
            checkpoints.clean()
            return checkpoints.latest(self.screen.say)

        found = on_main(look)
        if found is not None:
            check_same(found.state["run"], self.identity, found.path)
        return found

    def is_finished(self, checkpoint: Checkpoint | None) -> bool:
        """Whether the folder holds the model of as many steps; loads it then.

        Raises:
            ValueError: If it holds one of fewer steps, and no checkpoint to go on from.
        """
        record = None if self.folder is None else on_main(partial(finish.finished, self.folder))
        if self.folder is None or record is None:
            return False
        check_same(record["run"], self.identity, self.folder)
        if record["step"] >= self.config.steps:
            storage.load_weights(self.folder, self.task.model)
            self.screen.say(
                f"{self.folder} is finished at step {record['step']}; to train on, raise steps"
            )
            return True
        if checkpoint is None:
            raise ValueError(
                f"{self.folder} holds a model of {record['step']} steps and no checkpoint to go on "
                "from; train in a new folder"
            )
        return False

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes up the state of training, all but the model's."""
        trainer, tensors = self.trainer, checkpoint.training()
        load_optimizer(trainer.optimizer, self.task.model, part(tensors, "optimizer/"))
        if trainer.average is not None:
            trainer.average.load(part(tensors, "average/"))
        trainer.meters.load(part(tensors, "meters/"), self.runtime.device)
        self.health = Health(checkpoint.state["health"], part(tensors, "health/"))
        self.clock = Clock(checkpoint.state["elapsed_s"])
        trainer.last_good = f"the last good checkpoint is {checkpoint.path}"
        self.screen.say(f"going on from step {checkpoint.step} of {checkpoint.path.parent.parent}")
        before = checkpoint.state["run"]["train"]["steps"]
        if before != self.config.steps:
            rate = learning_rate(self.config, checkpoint.step)
            self.screen.say(
                f"steps was {before} and is {self.config.steps}: the learning rate follows the new "
                f"schedule from here on, {rate:.3g} now"
            )

    def steps(self, first: int) -> None:
        """Takes the steps from ``first`` on."""
        config, world = self.config, self.runtime.world_size
        sampler = StatelessSampler(
            len(self.examples),
            config.batch_size,
            seed=config.seed,
            num_micro_batches=config.micro_batches,
            rank=distributed.rank(),
            world_size=world,
        )
        self.task.train()
        with Loader(
            self.examples,
            sampler,
            first_step=first,
            last_step=max(first, config.steps),
            num_workers=config.num_workers,
        ) as loader:
            for step, batches in enumerate(loader, start=first):
                number = self.trainer.step(step, batches)
                self.after(step + 1, number)

    def after(self, step: int, number: int) -> None:
        """What is due when so many steps were taken.

        Args:
            step: Number of steps taken.
            number: Of the signal that asks to stop, or 0.
        """
        config, last = self.config, step == self.config.steps
        self.clock.tick()
        self.screen.advance(step)
        if last or step % config.log_every == 0:
            self.log(step)
        every = config.eval_every or config.checkpoint_every
        if self.eval_examples is not None and (last or step % every == 0):
            self.evaluate(step, self.eval_examples)
        if last or number or step % config.checkpoint_every == 0:
            self.save(step)
        if number and not last:
            where = "nothing was saved, for fit was given no folder"
            if self.folder is not None:
                where = "run the same command to go on"
            message = f"stopped at step {step}; {where}"
            self.screen.say(message)
            raise Stopped(step, number, message)

    def log(self, step: int) -> None:
        """Writes and shows the means of the interval, then begins a new one."""
        meters, task = self.trainer.meters, self.task
        meters.join()
        if distributed.is_main():
            values = report(meters)
            stats, norms = meters.stats(), self.norms(values["terms"])
            rate = self.clock.steps_per_s()
            values = {
                "step": step,
                **values,
                f"{task.unit}_per_s": rate * self.config.batch_size,
                "learning_rate": learning_rate(self.config, step - 1),
                "elapsed_s": self.clock.elapsed(),
            }
            left = (self.config.steps - step) / rate if rate else None
            said = self.health.follow(stats, norms)
            if said:
                values["health"] = said
            self.metrics.write(values)
            self.screen.metrics(values, task.unit, left, last=step == self.config.steps)
            for line in said:
                self.screen.say(f"health, step {step}: {line}")
            self.runtime.track(numbers(values), step)
        meters.clear()
        self.clock.interval()

    def norms(self, terms: Mapping[str, float]) -> dict[str, Norms]:
        """The norms of the levels, as far as they were measured."""
        found = {}
        books = self.task.codebooks
        for name in self.task.measured:
            kind, _, level = name.partition("/")
            if kind == "z_e_norm" and name in terms:
                book = books.get(level)
                entries = None if book is None else float(book.entries.detach().norm(dim=1).mean())
                found[level] = Norms(terms[name], entries)
        return found

    def evaluate(self, step: int, examples: Examples) -> None:
        """Evaluates the weights that would be saved now."""
        with self.clock.pause(), self.weights_to_save():
            values = evaluate(self.task, examples, self.config, self.runtime)
        line = {"step": step, "eval": {"weights": self.which_weights(), **values}}
        self.metrics.write(line)
        if distributed.is_main():
            self.runtime.track(numbers(values, "eval/"), step)
            self.screen.say(f"step {step}, held out: {summary(values, self.task.unit)}")

    def weights_to_save(self) -> Any:
        """A context in which the model has the weights that are evaluated and saved."""
        average = self.trainer.average
        return nullcontext() if average is None else average.applied(self.task.model)

    def which_weights(self) -> str:
        """Which weights are evaluated and saved: "average" or "last"."""
        return "last" if self.trainer.average is None else "average"

    def save(self, step: int) -> None:
        """Writes a checkpoint."""
        checkpoints, trainer = self.checkpoints, self.trainer
        if checkpoints is None:
            return
        with self.clock.pause():
            trainer.meters.join()

            def write() -> Path:
                return checkpoints.save(
                    step, self.task.model.state_dict(), self.tensors(), self.state()
                )

            path = on_main(write)
            trainer.last_good = f"the last good checkpoint is {path}"

    def tensors(self) -> dict[str, Tensor]:
        """All tensors of the training but the model's."""
        trainer = self.trainer
        groups = {
            "optimizer": optimizer_tensors(trainer.optimizer, self.task.model),
            "average": {} if trainer.average is None else trainer.average.tensors,
            "meters": trainer.meters.tensors(),
            "health": self.health.windows,
        }
        return {f"{g}/{name}": t for g, tensors in groups.items() for name, t in tensors.items()}

    def state(self) -> dict[str, Any]:
        """All else of the training, as JSON values."""
        elapsed = self.clock.elapsed()
        return {"run": self.identity, "health": self.health.state(), "elapsed_s": elapsed}

    def end(self, step: int) -> None:
        """Fits what is fitted last, and saves the model of so many steps."""
        if self.trainer.average is not None:
            self.trainer.average.apply(self.task.model)
        finish.calibrate(self.task, self.examples, self.config, self.runtime)
        if self.folder is not None:
            finish.save(self.task, self.folder, step, self.which_weights(), self.identity)


def load_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Gives the model the weights of a checkpoint.

    Raises:
        ValueError: If they are those of another model.
    """
    try:
        model.load_state_dict(checkpoint.model())
    except RuntimeError as error:
        first = " ".join(str(error).split())[:300]
        raise ValueError(
            f"checkpoint {checkpoint.path} is of another model ({first}); set the model back, or "
            "train in a new folder"
        ) from None


def part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start so, by the rest of their names."""
    return {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}
