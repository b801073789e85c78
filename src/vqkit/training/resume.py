"""One process in one folder, and only with what its run began with."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO

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


HELD: set[tuple[int, Path]] = set()
"""Process and folder of each lock: to close a second file of one would let go of it."""


@contextmanager
def lock(folder: Path | None) -> Iterator[None]:
    """Keeps other processes from training in the folder, which is made when missing.

    Inside another lock of the same process on the same folder it does nothing.

    Raises:
        BlockingIOError: If one does already; then nothing was written.
    """
    if folder is None or (key := (os.getpid(), folder.resolve())) in HELD:
        yield
        return
    held: list[TextIO] = []
    try:
        on_main(lambda: held.append(_take(folder)))
        HELD.add(key)
        yield
    finally:
        HELD.discard(key)
        for file in held:
            file.close()


def _take(folder: Path) -> TextIO:
    """The file by which this process has the folder for itself, until it is closed."""
    path = folder / LOCK
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):  # another process just took its folder away
            file = path.open("a+", encoding="utf-8")
            _lock(file, folder)
            if _is_at(path, file):
                file.truncate(0)
                file.write(f"{os.getpid()}\n")
                file.flush()
                return file
            file.close()


def _is_at(path: Path, file: TextIO) -> bool:
    """Whether an open file is still the one of that name."""
    return path.is_file() and os.path.samestat(os.fstat(file.fileno()), path.stat())


def _lock(file: TextIO, folder: Path) -> None:
    try:
        # Not flock: worker processes would inherit that, and outlive a killed run with it.
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        with file:
            file.seek(0)
            owner = file.read().strip() or "unknown"
        raise BlockingIOError(
            f"{folder} is in use: process {owner} trains there; wait for it, stop it, or "
            "train in another folder"
        ) from None


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
    keys = dict.fromkeys([*after, *before])
    for key in sorted(keys, key=lambda key: not key.endswith(".type")):  # others follow from these
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
    if isinstance(values, list) and any(isinstance(item, dict) for item in values):
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        return {prefix: values}
    flat = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}.{key}" if prefix else key)
    return flat
