"""Data sets of the Hugging Face hub, through ``datasets``, which keeps them on disk."""

import hashlib
from functools import cached_property
from typing import Any

from vqkit.data.record import Record


class HubSource:
    """One split of a data set of the hub.

    Args:
        name: ``owner/name``.
        split: Name of the split.
        column: Column of images; may be left out where there is only one.
        label_column: Column of classes; when left out, ``label`` or ``labels`` where it is there.
    """

    def __init__(
        self, name: str, split: str, column: str | None = None, label_column: str | None = None
    ) -> None:
        datasets = _datasets()
        self._where = f"hub:{name}:{split}"
        data = _load(name, split)
        images = [n for n, f in data.features.items() if isinstance(f, datasets.Image)]
        if column is None and len(images) == 1:
            column = images[0]
        if column not in data.features:
            names = ", ".join(data.features)
            raise ValueError(f"column is {column!r}, but {self._where} has the columns {names}")
        if column in images:
            data = data.cast_column(column, datasets.Image(decode=False))
        self._column = column
        self._label_column = _label_column(data, label_column, self._where)
        self._data = data
        feature = data.features[self._label_column] if self._label_column else None
        self.labels = tuple(feature.names) if isinstance(feature, datasets.ClassLabel) else ()
        if not self.labels:
            self._label_column = None

    @cached_property
    def fingerprint(self) -> str:
        facts = (self._where, self._column, self._label_column, len(self), self._data.features)
        digest = hashlib.sha256(repr(facts).encode())
        for index in {0, len(self) // 2, len(self) - 1}:
            digest.update(repr(self[index]).encode())
        return digest.hexdigest()

    @property
    def item_shape(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Record:
        row = self._data[index]
        value = row[self._column]
        if isinstance(value, dict):
            value = value.get("bytes")
        label = None if self._label_column is None else row[self._label_column]
        return Record(f"{index:0{len(str(len(self) - 1))}d}", value, label)

    def describe(self, index: int) -> str:
        return f"{self._where} row {index}"


def split_of(path: str) -> tuple[str, str]:
    """The name and the split of ``hub:owner/name:split``."""
    name, _, split = path.removeprefix("hub:").partition(":")
    return name, split or "train"


def hub_splits(name: str) -> list[str]:
    """Names of the splits of a data set of the hub."""
    try:
        return _datasets().get_dataset_split_names(name)
    except Exception as error:  # the hub's errors have no common base
        raise ValueError(_cannot_open(name, error)) from None


def _load(name: str, split: str) -> Any:
    try:
        return _datasets().load_dataset(name, split=split)
    except Exception as error:
        raise ValueError(_cannot_open(f"{name}:{split}", error)) from None


def _cannot_open(name: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:200]
    return f"hub:{name} cannot be opened ({reason}); check the name, the split and the network"


def _label_column(data: Any, wanted: str | None, where: str) -> str | None:
    if wanted is None:
        return next((name for name in ("label", "labels") if name in data.features), None)
    if wanted not in data.features:
        names = ", ".join(data.features)
        raise ValueError(f"label_column is {wanted!r}, but {where} has the columns {names}")
    return wanted


def _datasets() -> Any:
    try:
        import datasets
    except ImportError:
        raise ValueError(
            'data of the hub need the library datasets; install it with: pip install "vqkit[hub]"'
        ) from None
    return datasets
