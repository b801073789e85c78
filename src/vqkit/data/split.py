"""Splits: those that data sets name, and seeded ones."""

import glob
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch

from vqkit.data.hub import hub_splits
from vqkit.data.record import Record, Source
from vqkit.random import generator

TRAIN = ("train", "training")
EVALUATION = ("validation", "valid", "val", "dev", "eval", "test", "testing", "t10k")  # best first
WORD = re.compile(r"[A-Za-z0-9]*")


class Subset:
    """Some items of a source, numbered anew.

    Args:
        source: What is read.
        indices: Numbers of the chosen items.
    """

    def __init__(self, source: Source, indices: Sequence[int]) -> None:
        self.source = source
        self.indices = tuple(indices)

    @property
    def labels(self) -> tuple[str, ...]:
        return self.source.labels

    @property
    def fingerprint(self) -> str:
        return self.source.fingerprint

    @property
    def item_shape(self) -> tuple[int, ...] | None:
        return self.source.item_shape

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Record:
        return self.source[self.indices[index]]

    def id(self, index: int) -> str:
        return self.source.id(self.indices[index])

    def label(self, index: int) -> int | None:
        return self.source.label(self.indices[index])

    def describe(self, index: int) -> str:
        return self.source.describe(self.indices[index])


def split(num_items: int, fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """Numbers of the items for training and for evaluation: a pure function of its arguments.

    Args:
        num_items: Number of items n.
        fraction: Share of the evaluation, more than 0 and less than 1; rounded, at least one item.
        seed: Chooses the items.

    Returns:
        Two ascending lists that together have every number once, neither of them empty.

    Raises:
        ValueError: If the fraction is out of range, or there are fewer than two items.
    """
    if not 0 < fraction < 1:
        raise ValueError(f"eval_fraction is {fraction}; give more than 0 and less than 1")
    if num_items < 2:
        raise ValueError(
            f"a split needs at least 2 items, here are {num_items}: add data, or name others by "
            "data.eval_path (for a prior tokens.eval_path)"
        )
    size = min(max(1, round(fraction * num_items)), num_items - 1)
    order = torch.randperm(num_items, generator=generator(seed)).tolist()
    return sorted(order[size:]), sorted(order[:size])


def splits_of(path: str) -> dict[str, str]:
    """What of ``path`` is for training and what for evaluation, by the names there.

    Args:
        path: A folder, a file, ``digits`` or ``hub:owner/name``.

    Returns:
        Paths under the keys ``train`` and ``evaluation``; empty when ``path`` is one split.
    """
    if path.startswith("hub:"):
        name = path.removeprefix("hub:")
        parts = [] if ":" in name else hub_splits(name)
        return _choose({part: f"{path}:{part}" for part in parts})
    folder = Path(path).expanduser()
    if path == "digits" or not folder.is_dir():
        return {}
    with os.scandir(folder) as entries:
        seen = sorted((e for e in entries if not e.name.startswith(".")), key=lambda e: e.name)
    if tables := [entry.name for entry in seen if entry.name.endswith(".parquet")]:
        prefix = glob.escape(str(folder))
        return _choose({word: f"{prefix}/{word}[-_.]*" for word in map(_word, tables)})
    if arrays := [entry.name for entry in seen if is_image_idx(entry.name)]:
        return _choose({_word(name): str(folder / name) for name in arrays})
    folders = [entry.name for entry in seen if entry.is_dir()]
    if folders == ["data"]:  # as repositories of the hub are laid out
        return splits_of(str(folder / "data"))
    return _choose({name: str(folder / name) for name in folders})


def is_image_idx(name: str) -> bool:
    """Whether a file is named as MNIST names its files of images."""
    return "images" in name and name.removesuffix(".gz").endswith(("idx3-ubyte", ".idx3"))


def _word(name: str) -> str:
    """The first word of a file's name."""
    found = WORD.match(name)
    return found.group() if found else ""


def _choose(places: dict[str, str]) -> dict[str, str]:
    """The two splits, if all names are those of splits and both kinds are there."""
    train = [name for name in TRAIN if name in places]
    evaluation = [name for name in EVALUATION if name in places]
    if not train or not evaluation or len(train) + len(evaluation) < len(places):
        return {}
    return {"train": places[train[0]], "evaluation": places[evaluation[0]]}
