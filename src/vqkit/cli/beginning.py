"""A run folder from the first file to the first step: one process at a time, or no trace."""

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vqkit.cli.runs import CONFIG, begun

if TYPE_CHECKING:
    from vqkit.config import PriorRunConfig, RunConfig

TOKENIZER, CLASSES, METRICS, LOCK = "tokenizer", "classes.json", "metrics.jsonl", ".lock"
BEFORE = (CONFIG, "index.json", "index-evaluation.json", CLASSES, TOKENIZER)
"""What is written before the first step."""
OWN = (*BEFORE, "checkpoints", METRICS, LOCK)
PART = re.compile(r"\.(.+)\.\d+\.part")


@contextmanager
def training_in(folder: Path, config: "RunConfig | PriorRunConfig") -> Iterator[None]:
    """Keeps a run folder for one run; a run that fails before its first step leaves no trace.

    Args:
        folder: The run folder, there or not.
        config: Of the run.

    Raises:
        ValueError: If the folder holds something else, or the run of another config.
        BlockingIOError: If another process trains there.
    """
    from vqkit.distributed import is_main
    from vqkit.training.resume import lock
    from vqkit.training.runtime import on_main

    on_main(lambda: check(folder, config))  # before the lock, which is a file in the folder
    with lock(folder):
        on_main(lambda: prepare(folder, config))
        try:
            yield
        except Exception:
            if is_main() and not begun(folder) and not (folder / METRICS).is_file():
                clear(folder)
                (folder / LOCK).unlink(missing_ok=True)
                with suppress(OSError):  # it holds what was there before
                    folder.rmdir()
            raise


def check(folder: Path, config: "RunConfig | PriorRunConfig") -> None:
    """Raises ValueError if a run may not be trained in a folder."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file; choose another folder with -o")
    if begun(folder):
        check_same(folder / CONFIG, config)
        return
    # The lock is the first file of a run: without it, a config.yaml is somebody else's.
    own = OWN if (folder / LOCK).is_file() else ()
    others = sorted(path.name for path in folder.iterdir() if whole(path.name) not in own)
    if others:
        raise ValueError(f"{folder} is no run, it holds {others[0]}; choose another folder with -o")


def prepare(folder: Path, config: "RunConfig | PriorRunConfig") -> None:
    """Checks again, now that no other process writes there, and removes what a start left."""
    check(folder, config)
    if not begun(folder):
        clear(folder)


def keep_config(folder: Path, config: "RunConfig | PriorRunConfig") -> None:
    """Writes what a run is trained with; one that is finished keeps what it was trained with."""
    from vqkit.config import save_config
    from vqkit.training.finish import finished

    record = finished(folder)
    if record is None or record["step"] < config.train.steps:
        save_config(config, folder / CONFIG)


def clear(folder: Path) -> None:
    """Removes what is written before the first step."""
    for path in list(folder.iterdir()):
        if whole(path.name) not in BEFORE:
            continue
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def whole(name: str) -> str:
    """The name that a file is to have; a killed process may have left a part of it."""
    part = PART.fullmatch(name)
    return part[1] if part else name


def check_same(path: Path, config: "RunConfig | PriorRunConfig") -> None:
    """Raises ValueError unless the run had the same config, but for keys that do not matter."""
    from vqkit.config import RunConfig, is_prior, load_config, load_prior_config, plain, written
    from vqkit.training.resume import CHANGEABLE

    if not path.is_file():
        raise ValueError(f"{path.parent} has no {CONFIG}; choose another folder with -o")
    tokenizer = isinstance(config, RunConfig)
    if is_prior(written(path)) == tokenizer:
        kind = "prior" if tokenizer else "tokenizer"
        raise ValueError(f"{path.parent} holds the run of a {kind}; choose another folder with -o")
    load = load_config if tokenizer else load_prior_config
    before, now = flat(plain(load(path))), flat(plain(config))
    free = {f"train.{key}" for key in CHANGEABLE} | {"data.cache_mb"}
    kinds = (before.get("data.type"), now.get("data.type"))
    if kinds[0] != kinds[1]:
        other = f"{path.parent} holds the run of another kind of data, {kinds[0]}"
        raise ValueError(f"{other}; choose another folder with -o")
    for key in sorted(before.keys() | now.keys()):
        if key not in free and before.get(key) != now.get(key):
            raise ValueError(
                f"{path}: {key} is {before.get(key)}, you asked for {now.get(key)}; "
                "set it back, or choose another folder with -o"
            )


def flat(values: Any, prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys."""
    if isinstance(values, list) and any(isinstance(item, dict) for item in values):
        values = dict(enumerate(values))
    if not isinstance(values, dict):
        return {prefix: values}
    items = [flat(value, f"{prefix}.{key}" if prefix else key) for key, value in values.items()]
    return {key: value for part in items for key, value in part.items()}
