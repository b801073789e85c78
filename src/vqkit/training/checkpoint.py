"""Checkpoints: whole or not there, checked when read, without pickle."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from vqkit.atomic import atomic_folder
from vqkit.storage import FORMAT_VERSION, read_json, read_tensors, write_json, write_tensors

FOLDER = "checkpoints"
MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint that was read and found whole.

    Attributes:
        path: Its folder.
        step: Number of optimizer steps taken.
        state: What ``save`` was given. JSON values
    """

    path: Path
    step: int
    state: dict[str, Any]

    def model(self) -> dict[str, Tensor]:
        """The model's ``state_dict``."""
        return read_tensors(self.path / MODEL)

    def training(self) -> dict[str, Tensor]:
        """All other tensors of the training: the optimizer's, averages, running logs."""
        return read_tensors(self.path / OPTIMIZER)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: The run folder.
        keep: Number of checkpoints that are kept, the latest ones.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder / FOLDER
        self.keep = keep

    def save(
        self,
        step: int,
        model: dict[str, Tensor],
        training: dict[str, Tensor],
        state: dict[str, Any],
    ) -> Path:
        """Writes a checkpoint, then removes those that are too old.

        Args:
            step: Number of optimizer steps taken.
            model: The model's ``state_dict``.
            training: All other tensors.
            state: All else, as JSON values.

        Raises:
            OSError: If there is no room; nothing is left of the attempt.
        """
        path = self.folder / f"step-{step:08d}"
        with room_for(f"checkpoint {path}"):
            self.folder.mkdir(parents=True, exist_ok=True)
            # Only one that was found damaged can be here.
            shutil.rmtree(path, ignore_errors=True)
            with atomic_folder(path) as part:
                write_tensors(part / MODEL, model)
                write_tensors(part / OPTIMIZER, training)
                files = {name: file_record(part / name) for name in (MODEL, OPTIMIZER)}
                body = {"format_version": FORMAT_VERSION, "step": step, "files": files}
                body["state"] = state
                write_json(part / STATE, {**body, "sha256": digest(body)})
        kept = [found for found in self.paths() if found <= path][-self.keep :]
        for old in set(self.paths()).difference(kept):  # a later one was damaged, and passed over
            shutil.rmtree(old, ignore_errors=True)
        return path

    def paths(self) -> list[Path]:
        """The folders of all checkpoints, oldest first."""
        return sorted(path for path in self.folder.glob("step-????????") if path.is_dir())

    def latest(self, warn: Callable[[str], None]) -> Checkpoint | None:
        """The latest checkpoint that is whole; None when there is none.

        Args:
            warn: Told, in one line, of each damaged one that is passed over.

        Raises:
            ValueError: If another version of vqkit wrote it.
        """
        paths = self.paths()
        for path in reversed(paths):
            try:
                return read(path)
            except Damaged as error:
                then = "passed over for the one before" if path != paths[0] else "the last there is"
                warn(f"{error}; it is {then}")
        return None

    def clean(self) -> None:
        """Removes what killed runs left half-written."""
        for part in self.folder.glob(".*.part"):
            shutil.rmtree(part, ignore_errors=True)


class Damaged(ValueError):
    """A checkpoint is cut or altered."""


def read(path: Path) -> Checkpoint:
    """Reads a checkpoint's state and checks its files.

    Raises:
        Damaged: If it is not whole.
        ValueError: If another version of vqkit wrote it.
    """
    try:
        body = read_json(path / STATE, "it may have been cut")
    except (ValueError, FileNotFoundError) as error:
        raise Damaged(f"checkpoint {path} is damaged: {error}") from None
    version = body.get("format_version") if isinstance(body, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version is {version}, this vqkit reads {FORMAT_VERSION}; go on with "
            "the version of vqkit that wrote it, or train in a new folder"
        )
    if body.pop("sha256", None) != digest(body):
        raise Damaged(f"checkpoint {path} is damaged: {STATE} was altered")
    for name, expected in body["files"].items():
        found = file_record(path / name) if (path / name).is_file() else None
        if found != expected:
            size = "missing" if found is None else f"{found['bytes']} of {expected['bytes']} bytes"
            raise Damaged(f"checkpoint {path} is damaged: {name} is cut or altered ({size})")
    return Checkpoint(path, body["step"], body["state"])


def unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The tensors, each with memory of its own; safetensors refuses tied ones that share it."""
    return {name: tensor.detach().to("cpu", copy=True) for name, tensor in tensors.items()}


def file_record(path: Path) -> dict[str, Any]:
    """Size and SHA-256 of a file."""
    with path.open("rb") as file:
        name = hashlib.file_digest(file, "sha256").hexdigest()
    return {"bytes": path.stat().st_size, "sha256": name}


def digest(value: Any) -> str:
    """SHA-256 of JSON values."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


@contextmanager
def room_for(what: str) -> Iterator[None]:
    """Says in one line what there was no room for, and that nothing is lost.

    Args:
        what: What is written inside.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        raise OSError(
            error.errno,
            f"{os.strerror(error.errno)}: there is no room for {what}; free some, then run the "
            "same command to go on from the last checkpoint",
        ) from None
