"""Data sets of the Hugging Face hub, through ``datasets``, which keeps them on disk."""

import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from vqkit.data.record import Record, numbered_id


class HubSource:
    """One split of a data set of the hub.

    Args:
        path: ``hub:owner/name:split``; the split is ``train`` when left out.
        column: Column of images; may be left out where there is only one.
        label_column: Column of classes; when left out, ``label`` or ``labels`` where it is there.

    Raises:
        ValueError: If ``datasets`` is not installed, or there is no such data set or column.
    """

    def __init__(
        self, path: str, column: str | None = None, label_column: str | None = None
    ) -> None:
        name, _, split = path.removeprefix("hub:").partition(":")
        datasets = _datasets()
        data = _ask(path, datasets.load_dataset, name, split=split or "train")
        columns = f"{path} has the columns {', '.join(data.features)}"
        images = [n for n, kind in data.features.items() if isinstance(kind, datasets.Image)]
        if column is None and len(images) != 1:
            raise ValueError(
                f"{columns} (images: {', '.join(images) or 'none'}); set data.column to one"
            )
        self._column = column or images[0]
        for key, wanted in (("column", column), ("label_column", label_column)):
            if wanted is not None and wanted not in data.features:
                raise ValueError(
                    f"{key} is {wanted!r}, but {columns}; set data.{key} to one of them"
                )
        if self._column in images:
            data = data.cast_column(self._column, datasets.Image(decode=False))
        self._path, self._data = path, data
        usual = next((name for name in ("label", "labels") if name in data.features), None)
        self._label_column = label_column or usual
        kind = data.features[self._label_column] if self._label_column else None
        self.labels: tuple[str, ...] = tuple(getattr(kind, "names", None) or ())
        if label_column and not self.labels:
            raise ValueError(f"label_column {label_column!r} of {path} has no names of classes")
        self._classes = data[self._label_column][:] if self.labels else None

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        facts = (self._path, self._column, self._label_column, len(self), self._data.features)
        digest = hashlib.sha256(repr(facts).encode())
        for index in sorted({0, len(self) // 2, len(self) - 1}):
            digest.update(repr(self[index]).encode())
        return digest.hexdigest()

    @property
    def item_shape(self) -> None:
        return None

    def __len__(self) -> int:
        return len(self._data)

    def __getitem__(self, index: int) -> Record:
        value = self._data[index][self._column]
        if isinstance(value, dict):
            value = value["bytes"] or Path(value["path"]).read_bytes()
        return Record(self.id(index), value, self.label(index))

    def id(self, index: int) -> str:
        return numbered_id(index, len(self))

    def label(self, index: int) -> int | None:
        return None if self._classes is None else int(self._classes[index])

    def describe(self, index: int) -> str:
        return f"{self._path} row {index}"


def hub_splits(name: str) -> list[str]:
    """Names of the splits of a data set of the hub."""
    return _ask(f"hub:{name}", _datasets().get_dataset_split_names, name)


def _ask(path: str, function: Any, *arguments: Any, **options: Any) -> Any:
    try:
        with _quiet():
            return function(*arguments, **options)
    except Exception as error:  # what the hub and the network raise has no common base
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{path} cannot be opened ({reason}); check the name, the split and the network"
        ) from None


@contextmanager
def _quiet() -> Iterator[None]:
    """Keeps the libraries of the hub from telling each attempt; the last one's error is told."""
    loggers = [logging.getLogger(name) for name in ("huggingface_hub", "datasets")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _datasets() -> Any:
    try:
        import datasets  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ValueError(
            'data of the hub need the library datasets; install it with: pip install "vqkit[hub]"'
        ) from None
    return datasets
