"""Training: one engine for autoencoders and priors."""

from vqkit.training.config import TrainConfig
from vqkit.training.run import fit
from vqkit.training.runtime import join_processes
from vqkit.training.stop import NotFiniteError, Stopped
from vqkit.training.task import StepOutput, Task

__all__ = [
    "NotFiniteError",
    "StepOutput",
    "Stopped",
    "Task",
    "TrainConfig",
    "fit",
    "join_processes",
]
