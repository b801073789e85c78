"""The state of training beside the model's, as tensors by name and back."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from vqkit.training.checkpoint import Checkpoint
from vqkit.training.journal import Journal
from vqkit.training.loop import Trainer
from vqkit.training.optimizer import load_optimizer, optimizer_tensors


def tensors(trainer: Trainer, journal: Journal) -> dict[str, Tensor]:
    """All tensors of a run but the model's: the optimizer's, averages, running means."""
    groups: dict[str, dict[str, Tensor]] = {
        "optimizer": optimizer_tensors(trainer.optimizer, trainer.task.trained),
        "average": {} if trainer.average is None else trainer.average.tensors,
        "meters": trainer.meters.tensors(),
        "journal": journal.tensors(),
    }
    return {f"{group}/{name}": t for group, part in groups.items() for name, t in part.items()}


def restore(
    trainer: Trainer, journal: Journal, saved: Mapping[str, Tensor], state: Mapping[str, Any]
) -> None:
    """The inverse of ``tensors``.

    Args:
        trainer: New, of the model as it was saved.
        journal: New.
        saved: What ``tensors`` gave.
        state: What ``journal.state()`` gave.
    """
    load_optimizer(trainer.optimizer, trainer.task.trained, part(saved, "optimizer/"))
    if trainer.average is not None:
        trainer.average.load(part(saved, "average/"))
    trainer.meters.load(part(saved, "meters/"), trainer.runtime.device)
    journal.load(state, part(saved, "journal/"))


def part(saved: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names start so, by the rest of their names."""
    return {k.removeprefix(prefix): t for k, t in saved.items() if k.startswith(prefix)}


def load_model(model: nn.Module, checkpoint: Checkpoint) -> None:
    """Gives the model the weights of a checkpoint.

    Raises:
        ValueError: If they are those of another model.
    """
    saved = checkpoint.model()
    try:
        model.load_state_dict(saved)
    except (RuntimeError, ValueError) as error:
        first = " ".join(str(error).split())[:300]
        raise ValueError(
            f"checkpoint {checkpoint.path} is of another model ({first}); set the model back, or "
            "train in a new folder"
        ) from None
