"""One process in one folder, and only with what its run began with."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from vqkit.data.example import Examples
from vqkit.training.config import TrainConfig
from vqkit.training.runtime import on_main
from vqkit.training.task import Task

LOCK = ".lock"
CHANGEABLE = frozenset(
    {
        "steps",
        "micro_batches",
        "device",
        "precision",
        "channels_last",
        "compile",
        "deterministic",
        "num_workers",
        "log_every",
        "eval_every",
        "eval_items",
        "checkpoint_every",
        "keep_checkpoints",
        "trackers",
        "progress",
    }
)
"""Keys that do not change what is computed, but for rounding; and the end of the run."""


@contextmanager
def lock(folder: Path | None) -> Iterator[None]:
    """Keeps other processes from training in the folder, which is made when missing.

    Raises:
        BlockingIOError: If one does already.
    """
    held = []

    def take() -> None:
        if folder is None:
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / LOCK
        file = path.open("a+", encoding="utf-8")
        held.append(file)
        try:
            # Not flock: worker processes would inherit that, and outlive a killed run with it.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise BlockingIOError(
                f"{folder} is in use: process {owner} trains there; wait for it, stop it, or "
                "train in another folder"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()

    try:
        on_main(take)
        yield
    finally:
        for file in held:
            file.close()


def identity(task: Task, examples: Examples, config: TrainConfig) -> dict[str, Any]:
    """What a run is, as JSON values: to be equal when it is resumed, but for some keys."""
    return {
        "train": TypeAdapter(TrainConfig).dump_python(config, mode="json"),
        "model": task.describe(),
        "data": {
            "num_examples": len(examples),
            "fingerprint": getattr(examples, "fingerprint", None),
        },
    }


def check_same(saved: Mapping[str, Any], now: Mapping[str, Any], where: Path) -> None:
    """Compares a run with the one whose checkpoint it would go on from.

    Args:
        saved: Its ``identity``.
        now: The ``identity`` of this one.
        where: Its checkpoint.

    Raises:
        ValueError: If a key has changed that changes what is computed; it is named.
    """
    before, after = _flat(saved), _flat(now)
    for key in dict.fromkeys([*after, *before]):
        part, _, name = key.partition(".")
        if before.get(key) == after.get(key) or (part == "train" and name in CHANGEABLE):
            continue
        if part == "data":
            raise ValueError(
                f"the training data changed since the run began ({name} was {before.get(key)}, is "
                f"{after.get(key)}, checkpoint {where}); restore it, or train in a new folder"
            )
        raise ValueError(
            f"{key} was {before.get(key)} when the run began and is {after.get(key)} now "
            f"(checkpoint {where}); set it back, or train in a new folder"
        )


def _flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested JSON values by dotted key."""
    if not isinstance(values, dict):
        return {prefix: values}
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
