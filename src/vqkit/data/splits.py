"""Finds splits by the names that data sets give them."""

import glob
import os
import re
from pathlib import Path

from vqkit.data.hub import hub_splits

TRAIN = ("train", "training")
EVALUATION = ("validation", "valid", "val", "dev", "eval", "test", "testing", "t10k")  # best first
WORD = re.compile(r"[A-Za-z0-9]+")


def splits_of(path: str) -> dict[str, str]:
    """What of ``path`` is for training and what for evaluation.

    Args:
        path: As for ``open_splits``.

    Returns:
        Paths under the keys ``train`` and ``evaluation``; empty when ``path`` is one split.
    """
    if path.startswith("hub:"):
        return _hub(path)
    folder = Path(path).expanduser()
    if path == "digits" or not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        seen = [entry for entry in entries if not entry.name.startswith(".")]
    folders = sorted(entry.name for entry in seen if entry.is_dir())
    tables = sorted(entry.name for entry in seen if entry.name.endswith(".parquet"))
    arrays = sorted(e.name for e in seen if "images" in e.name and "idx3" in e.name)
    if tables:
        words = {_word(name): _pattern(folder, _word(name)) for name in tables}
        return _choose(words)
    if arrays:
        return _choose({_word(name): str(folder / name) for name in arrays})
    if folders == ["data"]:  # as the hub lays out its repositories
        return splits_of(str(folder / "data"))
    return _choose({name.lower(): str(folder / name) for name in folders})


def _hub(path: str) -> dict[str, str]:
    if ":" in path.removeprefix("hub:"):
        return {}
    return _choose({name: f"{path}:{name}" for name in hub_splits(path.removeprefix("hub:"))})


def _word(name: str) -> str:
    """The first word of a file's name, in lower case."""
    found = WORD.match(name)
    return found.group().lower() if found else ""


def _pattern(folder: Path, word: str) -> str:
    return f"{glob.escape(str(folder))}/{word}[-_.]*"


def _choose(places: dict[str, str]) -> dict[str, str]:
    """The two splits, if all names are those of splits and both kinds are there."""
    train = [name for name in TRAIN if name in places]
    evaluation = [name for name in EVALUATION if name in places]
    if not train or not evaluation or len(train) + len(evaluation) < len(places):
        return {}
    return {"train": places[train[0]], "evaluation": places[evaluation[0]]}
