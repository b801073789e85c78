"""Run folders, as the commands open them."""

import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqkit.cli.wording import counted

if TYPE_CHECKING:
    from vqkit.autoencoder import VQVAE
    from vqkit.config import RunConfig
    from vqkit.config.run import DataConfig
    from vqkit.data import FileKind, Items, Splits

CONFIG = "config.yaml"
MOST_LINES = 10


def begun(folder: Path) -> bool:
    """Whether a folder holds a checkpoint or a trained model."""
    checkpoints = folder / "checkpoints"
    saved = checkpoints.is_dir() and any(checkpoints.glob("step-*"))
    return saved or (folder / "model.safetensors").is_file()


def config_of(folder: Path, words: Sequence[str] = ()) -> "RunConfig":
    """The config of a tokenizer's run.

    Args:
        folder: The run folder.
        words: Settings of its data that count more than the run's.

    Raises:
        FileNotFoundError: If the folder is no run of the command line.
        ValueError: If a word is about anything but data.
    """
    from vqkit.config import load_config

    for word in words:
        if not word.startswith("data."):
            raise ValueError(f"{word}: the run is trained; only keys of data may be set here")
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such run folder; vqkit train makes them")
    if not (folder / CONFIG).is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}; give the folder of a run")
    return load_config(folder / CONFIG, words)


def open_tokenizer(folder: Path, device: str) -> "VQVAE":
    """The trained tokenizer of a run."""
    from vqkit.autoencoder import VQVAE

    check_trained(folder, "vqkit train")
    return VQVAE.from_pretrained(folder, device=choose_device(device))


def check_trained(folder: Path, command: str) -> None:
    """Raises FileNotFoundError unless the folder holds a model that is trained to its end."""
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such run folder; {command} makes them")
    if begun(folder) and not (folder / "model.safetensors").is_file():
        raise FileNotFoundError(f"{folder} is not trained to its end; run its {command} again")


def items_of(folder: Path, data: str | None, words: Sequence[str] = ()) -> "Items":
    """Items prepared as in a run, not augmented.

    Args:
        folder: The run folder.
        data: All items of this data set; None: those that the run held out.
        words: Settings of the data that count more than the run's.
    """
    config = data_config(folder, data, words)
    if data is None:
        kept = None if words else folder  # the index of the run is of its own data
        return config.open(folder=kept).evaluation
    examples, unreadable = config.open_all()
    say_unreadable(unreadable, config.kind)
    return examples


def splits_of(folder: Path, data: str | None, words: Sequence[str] = ()) -> "Splits[Any]":
    """Items to learn from and items held out, prepared as in a run.

    Args:
        folder: The run folder.
        data: Both are of this data set, as of ``data.path``; None: those of the run.
        words: Settings of the data that count more than the run's.
    """
    config = data_config(folder, data, words)
    if data is None:
        return config.open(folder=None if words else folder)
    found = config.open()
    say_unreadable(found.unreadable, config.kind)
    return found


def data_config(folder: Path, data: str | None, words: Sequence[str]) -> "DataConfig":
    """The data of a run, or other data prepared as these."""
    config = config_of(folder, words).data
    if data is None:
        return config
    for word in words:
        if word.partition("=")[0] in ("data.path", "data.eval_path"):
            raise ValueError(f"{word}: DATA is {data} already; leave one of them out")
    return replace(config, path=data, eval_path=None)


def say_unreadable(lines: Sequence[str], kind: "FileKind") -> None:
    """Says on standard error which items were left out."""
    from vqkit.distributed import is_main

    if not lines or not is_main():
        return
    are = "is" if len(lines) == 1 else "are"
    found = f"{counted(len(lines), kind.item)} cannot be read and {are} left out"
    print(f"{found}:", file=sys.stderr)
    for line in lines[:MOST_LINES]:
        print(f"  {line}", file=sys.stderr)
    if len(lines) > MOST_LINES:
        print(f"  and {len(lines) - MOST_LINES} more", file=sys.stderr)


def is_other_process() -> bool:
    """Whether torchrun started this process besides the first, for work that one alone does."""
    return os.environ.get("RANK", "0") != "0"


def choose_device(name: str) -> str:
    """The name of a device for torch.

    Raises:
        ValueError: If this machine has no such device.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if name != "cpu" and not (name.startswith("cuda") and torch.cuda.is_available()):
        raise ValueError(f"--device {name} is not on this machine; give auto or cpu")
    return name
