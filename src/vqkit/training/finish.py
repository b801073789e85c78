"""The end of a run: what is fitted last, and the saved model."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from vqkit import distributed
from vqkit.data.batch import Batch
from vqkit.data.example import Examples
from vqkit.data.loader import in_order
from vqkit.random import generator
from vqkit.storage import CONFIG, FORMAT_VERSION, WEIGHTS, read_json, write_json
from vqkit.training.checkpoint import file_record, room_for
from vqkit.training.config import TrainConfig
from vqkit.training.log import METRICS
from vqkit.training.runtime import Runtime, on_main
from vqkit.training.task import Task

FINISHED = "finished.json"
CALIBRATION_ITEMS = 2048
PURPOSE = 2
"""A word of the hash that keeps these random numbers apart from those of training."""


def finished(folder: Path) -> dict[str, Any] | None:
    """What ``save`` noted in a folder; None without a finished model, or with a damaged one.

    Raises:
        ValueError: If another version of vqkit wrote it.
    """
    try:
        record = read_json(folder / FINISHED)
        whole = file_record(folder / WEIGHTS) == record["model"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if record.get("format_version") != FORMAT_VERSION:
        raise ValueError(
            f"{folder / FINISHED}: format_version is {record.get('format_version')}, this vqkit "
            f"reads {FORMAT_VERSION}; train in a new folder, or with the version that wrote it"
        )
    return record if whole else None


def clean(folder: Path) -> None:
    """Removes what killed runs left half-written of the files that training writes."""
    for name in (WEIGHTS, CONFIG, FINISHED, METRICS):
        for part in folder.glob(f".{name}.*.part"):
            part.unlink(missing_ok=True)


@torch.no_grad()
def calibrate(task: Task, examples: Examples, config: TrainConfig, runtime: Runtime) -> None:
    """Fits what is fitted after training, on a bounded number of training examples."""
    order = torch.randperm(len(examples), generator=generator(config.seed, PURPOSE)).tolist()
    chosen = order[: max(CALIBRATION_ITEMS, config.batch_size)]
    chosen = chosen[distributed.rank() :: runtime.world_size]
    size = max(1, config.batch_size // config.micro_batches // runtime.world_size)

    def batches() -> Iterator[Batch]:
        for batch in in_order(examples, size, indices=chosen):
            yield batch.to(runtime.device)

    task.eval()
    task.calibrate(batches())
    task.train()


def save(task: Task, folder: Path, step: int, weights: str, run: dict[str, Any]) -> None:
    """Writes the model, and a note that it is finished; every rank must call it.

    Args:
        task: Whose model is saved.
        folder: The run folder.
        step: Number of optimizer steps taken.
        weights: Which weights these are, "last" or "average".
        run: The run's ``identity``.
    """

    def write() -> None:
        with room_for(f"model {folder / WEIGHTS}"):
            (folder / FINISHED).unlink(missing_ok=True)
            task.save(folder)
            model = file_record(folder / WEIGHTS)
            note = {"step": step, "weights": weights, "model": model, "run": run}
            write_json(folder / FINISHED, {"format_version": FORMAT_VERSION, **note})

    on_main(write)
