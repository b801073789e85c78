"""``fit``: trains anything, or goes on with it."""

import os
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from vqkit.autoencoder import VQVAE
from vqkit.data.example import Examples
from vqkit.priors import CountedPrior, Prior
from vqkit.training.adversarial import AdversarialTask
from vqkit.training.autoencoder import AutoencoderTask
from vqkit.training.config import TrainConfig
from vqkit.training.prior import PriorTask
from vqkit.training.resume import lock
from vqkit.training.runtime import open_runtime
from vqkit.training.session import Session
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
            trained in place. Priors that are counted see the examples once.
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
    check_examples("examples", examples)
    if eval_examples is not None:
        check_examples("eval_examples", eval_examples)
    path = None if folder is None else Path(folder)
    task = task_of(model)
    with open_runtime(config, path) as runtime, lock(path), task.attached(config):
        run = Session(task, examples, config, runtime, path, eval_examples)
        if isinstance(model, CountedPrior):
            run.count(model)
        else:
            run.go()
    model.eval()
    return model


def check_examples(name: str, examples: Examples) -> None:
    """Raises TypeError for what is no examples, ValueError unless each process has one."""
    if not isinstance(examples, Examples):
        kind = type(examples).__name__
        raise TypeError(f"{name} is a {kind}; give examples, such as TensorExamples({name})")
    least = max(1, int(os.environ.get("WORLD_SIZE", "1")))
    if len(examples) < least:
        raise ValueError(f"{name} has {len(examples)} items; give at least {least}")


def task_of(model: nn.Module) -> Task:
    """How to train a model.

    Raises:
        TypeError: If it is none of those that can be trained.
    """
    if isinstance(model, Task):
        return model
    if isinstance(model, VQVAE):
        make: Any = getattr(model.objective, "judge", None)
        judge = None if make is None else make()
        return AutoencoderTask(model) if judge is None else AdversarialTask(model, judge)
    if isinstance(model, Prior):
        return PriorTask(model)
    raise TypeError(f"model is a {type(model).__name__}; give a VQVAE, a Prior or a Task")
