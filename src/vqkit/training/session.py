"""A whole run, from the first batch to the saved model, resumed where it was left."""

import math
from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

from vqkit import distributed
from vqkit.data.example import Examples, lengths_of
from vqkit.data.loader import Loader
from vqkit.data.sampler import StatelessSampler
from vqkit.priors import CountedPrior
from vqkit.training import finish, snapshot
from vqkit.training.checkpoint import Checkpoint, Checkpoints
from vqkit.training.config import TrainConfig
from vqkit.training.evaluate import evaluate
from vqkit.training.initialize import initialize
from vqkit.training.journal import Journal
from vqkit.training.log import Screen
from vqkit.training.loop import Trainer
from vqkit.training.optimizer import learning_rate
from vqkit.training.prior import count
from vqkit.training.resume import check_same, identity
from vqkit.training.runtime import Runtime, on_main, share_state
from vqkit.training.stop import NotFiniteError, Stopped
from vqkit.training.task import Task


class Session:
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
        self.sampler = StatelessSampler(
            len(examples),
            config.batch_size,
            seed=config.seed,
            num_micro_batches=config.micro_batches,
            rank=distributed.rank(),
            world_size=runtime.world_size,
            lengths=lengths_of(examples),
        )
        self.checkpoints = None if folder is None else Checkpoints(folder, config.keep_checkpoints)
        self.screen = Screen(config.progress, config.steps)
        self.journal = Journal(task, config, runtime, self.screen, folder)

    def go(self) -> None:
        """Trains what is left to train."""
        self.task.to(self.runtime.device)
        share_state(self.task.trained)
        checkpoint = self.find()
        if self.is_finished(checkpoint):
            return
        if self.task.only_starts:
            self.start_alone()
            return
        first = 0 if checkpoint is None else checkpoint.step
        if checkpoint is None:
            if self.checkpoints is not None and self.checkpoints.paths():
                self.screen.say(f"{self.folder} has no whole checkpoint: training begins anew")
            initialize(self.task, self.examples, self.config, self.runtime)
        else:
            snapshot.load_model(self.task.trained, checkpoint)
        self.trainer = Trainer(self.task, self.config, self.runtime)
        if checkpoint is not None:
            self.restore(checkpoint)
        self.journal.begin(first)
        with self.screen.open(first), self.trainer.stop.caught():
            self.steps(first)
            self.end(max(first, self.config.steps))

    def start_alone(self) -> None:
        """All of the training of a model whose start from data is all: codebooks by k-means."""
        steps = self.config.steps
        for book in self.task.codebooks.values():
            book.start_steps = steps
        self.journal.begin(0)
        self.screen.say(f"no network to train: {steps} steps of k-means for each codebook")
        initialize(self.task, self.examples, self.config, self.runtime, everything=True)
        if self.eval_examples is not None:
            values = evaluate(self.task, self.eval_examples, self.config, self.runtime)
            self.journal.evaluation(steps, {"weights": "last", **values})
        finish.calibrate(self.task, self.examples, self.config, self.runtime)
        if self.folder is not None:
            finish.save(self.task, self.folder, steps, "last", self.identity)

    def count(self, prior: CountedPrior) -> None:
        """One pass over the data, for a prior that is counted and not optimised."""
        self.task.to(self.runtime.device)
        if self.is_counted():
            return
        count(prior, self.examples, self.config.batch_size, self.runtime)
        if self.folder is not None:
            finish.save(self.task, self.folder, self.config.steps, "last", self.identity)

    def find(self) -> Checkpoint | None:
        """The checkpoint to go on from, the same on every rank; it is one of this same run."""
        checkpoints = self.checkpoints
        if checkpoints is None:
            return None

        def look() -> Checkpoint | None:
            checkpoints.clean()
            finish.clean(checkpoints.folder.parent)
            return checkpoints.latest(self.screen.say)

        found = on_main(look)
        if found is not None:
            self.check_same(found.state["run"], found.path)
        return found

    def is_finished(self, checkpoint: Checkpoint | None) -> bool:
        """Whether the folder holds the model of as many steps; loads it then.

        Raises:
            ValueError: If it holds one of fewer steps, and no checkpoint to go on from.
        """
        record = None if self.folder is None else on_main(partial(finish.finished, self.folder))
        if self.folder is None or record is None:
            return False
        self.check_same(record["run"], self.folder)
        if record["step"] >= self.config.steps:
            self.task.load(self.folder)
            done = f"{self.folder} is finished at step {record['step']}"
            self.screen.say(f"{done}; raise train.steps to train on")
            return True
        if checkpoint is None and not self.task.only_starts:
            raise ValueError(
                f"{self.folder} holds a model of {record['step']} steps and no checkpoint to go on "
                "from; train in a new folder"
            )
        return False

    def is_counted(self) -> bool:
        """Whether the folder holds the counted prior, of however many steps; loads it then."""
        if self.folder is None:
            return False
        folder = self.folder

        def look() -> dict[str, Any] | None:
            finish.clean(folder)
            return finish.finished(folder)

        record = on_main(look)
        if record is None:
            return False
        self.check_same(record["run"], folder)
        self.task.load(folder)
        self.screen.say(f"{folder} is finished: all tokens were counted")
        return True

    def check_same(self, saved: Mapping[str, Any], where: Path) -> None:
        """Raises ValueError unless a saved run is this one, but for keys that do not matter."""
        model = self.task.upgraded(saved["model"])  # of keys that there were not then
        check_same({**saved, "model": model}, self.identity, where)

    def restore(self, checkpoint: Checkpoint) -> None:
        """Takes up the state of training, all but the model's."""
        state = checkpoint.state
        snapshot.restore(self.trainer, self.journal, checkpoint.training(), state["journal"])
        self.trainer.last_good = f"the last good checkpoint is {checkpoint.path}"
        self.screen.say(f"going on from step {checkpoint.step} of {self.folder}")
        before = state["run"]["train"]["steps"]
        if before != self.config.steps:
            rate = learning_rate(self.config, checkpoint.step)
            self.screen.say(
                f"train.steps was {before} and is {self.config.steps}: the learning rate follows "
                f"the new schedule from here on, {rate:.3g} now"
            )

    def steps(self, first: int) -> None:
        """Takes the steps from ``first`` on."""
        self.task.train()
        with Loader(
            self.examples,
            self.sampler,
            first_step=first,
            last_step=max(first, self.config.steps),
            num_workers=self.config.num_workers,
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
        self.journal.clock.tick()
        self.screen.advance(step)
        if last or step % config.log_every == 0:
            self.trainer.meters.join()
            self.journal.training(step, self.trainer.meters)
            self.trainer.meters.clear()
        every = config.eval_every or config.checkpoint_every
        save = last or number or step % config.checkpoint_every == 0
        if save:
            with self.journal.clock.pause():
                self.trainer.check_trained(step)
        if self.eval_examples is not None and (last or step % every == 0):
            self.evaluate(step, self.eval_examples)
        if save:
            self.save(step)
        if number and not last:
            then = "nothing was saved, for fit was given no folder"
            if self.folder is not None:
                then = "run the same command to go on"
            message = f"stopped at step {step}; {then}"
            self.screen.say(message)
            raise Stopped(step, number, message)

    def evaluate(self, step: int, examples: Examples) -> None:
        """Evaluates the weights that would be saved now."""
        average = self.trainer.average
        applied = nullcontext() if average is None else average.applied(self.task.trained)
        with self.journal.clock.pause(), applied:
            values = evaluate(self.task, examples, self.config, self.runtime)
            if not on_main(lambda: math.isfinite(values["loss"])):
                raise NotFiniteError(step, ("held-out loss",), self.trainer.last_good)
        self.journal.evaluation(step, {"weights": self.which_weights(), **values})

    def which_weights(self) -> str:
        """Which weights are evaluated and saved: "average" or "last"."""
        return "last" if self.trainer.average is None else "average"

    def save(self, step: int) -> None:
        """Writes a checkpoint."""
        checkpoints = self.checkpoints
        if checkpoints is None:
            return

        def write() -> Path:
            tensors = snapshot.tensors(self.trainer, self.journal)
            state = {"run": self.identity, "journal": self.journal.state()}
            return checkpoints.save(step, self.task.trained.state_dict(), tensors, state)

        with self.journal.clock.pause():
            self.trainer.meters.join()
            path = on_main(write)
        self.trainer.last_good = f"the last good checkpoint is {path}"

    def end(self, step: int) -> None:
        """Fits what is fitted last, and saves the model of so many steps."""
        if self.trainer.average is not None:
            self.trainer.average.apply(self.task.trained)
        finish.calibrate(self.task, self.examples, self.config, self.runtime)
        if self.folder is not None:
            finish.save(self.task, self.folder, step, self.which_weights(), self.identity)
