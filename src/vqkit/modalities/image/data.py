"""Images: decoding, size, augmentation, and the splits of a data set."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass as plain_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.data import Example, Index, Source, Subset, build_index, open_splits, split
from vqkit.data.cache import SharedCache
from vqkit.distributed import broadcast_object, is_main
from vqkit.modalities.image.pixels import Resize, canvas_size, decode_image, fit, image_size
from vqkit.random import hash_int
from vqkit.schema import STRICT

Side = Annotated[int, Field(ge=1)]
INDEX, EVAL_INDEX = "index.json", "index-evaluation.json"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageDataConfig:
    """Images, wherever they are, as 8-bit pixels of one size."""

    type: Literal["image"] = "image"
    path: str
    """Folder of images (sub-folders: labels), Parquet, idx, npy, npz, digits, or hub:owner/name."""
    eval_path: str | None = None
    """Images for evaluation; left out: a test or val split inside path, or else eval_fraction."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the images kept for evaluation where no other are named."""
    split_seed: int = 0
    """Chooses the images kept for evaluation."""
    column: str | None = None
    """Column of the images, for Parquet, npz and the hub; needed where several could be meant."""
    label_column: str | None = None
    """Column of the labels, for Parquet, npz and the hub."""
    size: Side | tuple[Side, Side] | None = None
    """Height and width in pixels, one number for both; left out: as they are, all the same."""
    resize: Resize = "crop"
    """How images get that size: crop the excess, stretch, pad with black, or cut without scaling."""
    crop: Literal["center", "random"] = "center"
    """Where the excess is cut off in training; evaluation uses the centre."""
    flip: bool = False
    """Whether training mirrors every second image at random."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for RGB; images are converted."""
    strict: bool = False
    """Whether an unreadable image is an error; otherwise it is listed and left out."""
    cache_mb: Annotated[int, Field(ge=0)] = 1024
    """Decoded images are kept in memory where all fit into so many MiB."""

    @property
    def window(self) -> tuple[int, int] | None:
        """Height and width; None: as they are."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size


class ImageExamples:
    """Images of one size as examples with x (C, H, W) uint8.

    Args:
        source: What is read.
        config: Size, channels and augmentation.
        excluded: Numbers of items of the source that are left out, the unreadable ones.
        shapes: Height and width of every item of the source, from the index. Without them only
            images that are scaled to one size are kept in memory.
        augment: Whether a seed changes the example, by random crops and flips.

    Raises:
        ValueError: If nothing is left, or the images differ in size and the config names none.
    """

    def __init__(
        self,
        source: Source,
        config: ImageDataConfig,
        *,
        excluded: Collection[int] = (),
        shapes: Sequence[tuple[int, ...]] | None = None,
        augment: bool = False,
    ) -> None:
        if excluded:
            kept = [index for index in range(len(source)) if index not in excluded]
            source = Subset(source, kept)
            shapes = None if shapes is None else [shapes[index] for index in kept]
        if not len(source):
            raise ValueError("no image is left; name data with at least one readable image")
        self.source = source
        self.config = config
        self.augment = augment
        self.labels = source.labels
        self._slack = config.crop == "random" and config.window is not None
        self._canvases = self._plan(shapes)
        self._cache = self._make_cache()
        height, width = config.window or self._first_size()
        self.shape = (config.channels, height, width)

    def _plan(self, shapes: Sequence[tuple[int, ...]] | None) -> list[tuple[int, int]] | None:
        """Height and width of each decoded and scaled image, where they are known."""
        config, count = self.config, len(self.source)
        if shapes is None and self.source.item_shape is not None:
            shapes = [image_size(self.source.item_shape)] * count
        if config.window is None and shapes is not None:
            _check_one_size(self.source, shapes)
        if config.window is not None and not self._slack:
            return [config.window] * count
        if shapes is None:
            return None
        sizes = {
            (h, w): canvas_size(h, w, config.window, config.resize, self._slack)
            for h, w in set(shapes)
        }
        return [sizes[h, w] for h, w in shapes]

    def _make_cache(self) -> SharedCache | None:
        if self._canvases is None:
            return None
        channels = self.config.channels
        total = sum(channels * height * width for height, width in self._canvases)
        if total > self.config.cache_mb * 2**20:
            return None
        return SharedCache([(channels, height, width) for height, width in self._canvases])

    def _first_size(self) -> tuple[int, int]:
        if self._canvases is not None:
            return self._canvases[0]
        height, width = self._canvas(0).shape[1:]
        return height, width

    @property
    def fingerprint(self) -> str:
        """Hexadecimal; changes when the data do."""
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def id(self, index: int) -> str:
        """The name of an image, different from all others: its path below the folder."""
        return self.source[index].id

    def describe(self, index: int) -> str:
        """Where an image is, for messages."""
        return self.source.describe(index)

    def example(self, index: int, seed: int | None = None) -> Example:
        """An image, cut and flipped as the seed says.

        Raises:
            ValueError: If it cannot be decoded, or has not the size of the others.
        """
        canvas = self._canvas(index)
        top = (canvas.shape[1] - self.shape[1]) // 2
        left = (canvas.shape[2] - self.shape[2]) // 2
        if min(top, left) < 0 or (self.config.window is None and (top or left)):
            found = f"{canvas.shape[1]} x {canvas.shape[2]}"
            raise ValueError(f"is {found}, the first {self.shape[1]} x {self.shape[2]}; set size")
        random = self.augment and seed is not None
        if random and self._slack:
            top = hash_int(seed, 0) % (canvas.shape[1] - self.shape[1] + 1)
            left = hash_int(seed, 1) % (canvas.shape[2] - self.shape[2] + 1)
        window = canvas[:, top : top + self.shape[1], left : left + self.shape[2]]
        if random and self.config.flip and hash_int(seed, 2) % 2:
            window = window[:, :, ::-1]
        return Example(torch.from_numpy(window.copy()), self._label(index))

    def _canvas(self, index: int) -> np.ndarray:
        """The decoded and scaled image, out of the cache where it is there. (C, h, w) uint8"""
        cached = None if self._cache is None else self._cache.get(index)
        if cached is not None:
            return cached
        pixels = decode_image(self.source[index].value, self.config.channels)
        canvas = fit(pixels, self.config.window, self.config.resize, self._slack)
        if self._cache is not None:
            self._cache.put(index, canvas)
        return canvas

    def _label(self, index: int) -> int | None:
        return self.source[index].label if self.labels else None

    def __getstate__(self) -> dict[str, Any]:
        # A process that is not forked cannot share the cache, and fills its own.
        return vars(self) | {"_cache": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._cache = self._make_cache()


@plain_dataclass(frozen=True, slots=True)
class ImageSplits:
    """The images of a run.

    Attributes:
        train: For training, augmented where a seed is given.
        evaluation: For evaluation.
        unreadable: One line for each image that was left out: where it is, and why.
    """

    train: ImageExamples
    evaluation: ImageExamples
    unreadable: tuple[str, ...]


def open_images(config: ImageDataConfig, *, folder: Path | None = None) -> ImageSplits:
    """Opens the images of a config, reads each once to find unreadable ones, and splits them.

    Args:
        config: Names the data.
        folder: The run's folder: what was found is kept there, and on the next call the data must
            still be the same. None: nothing is kept.

    Raises:
        FileNotFoundError: If the data are not there.
        ValueError: If they cannot be used, or changed since the run began.
    """
    options = {"column": config.column, "label_column": config.label_column}
    train, evaluation = open_splits(config.path, config.eval_path, **options)
    index = _indexed(train, config, folder and folder / INDEX)
    lines = _lines(train, index)
    if evaluation is None:
        chosen = split(len(index.readable), config.eval_fraction, config.split_seed)
        parts = [[index.readable[number] for number in part] for part in chosen]
        examples = [
            _chosen(train, config, index, part, augment)
            for part, augment in zip(parts, (True, False), strict=True)
        ]
        return ImageSplits(*examples, tuple(lines))
    eval_index = _indexed(evaluation, config, folder and folder / EVAL_INDEX)
    lines += _lines(evaluation, eval_index)
    return ImageSplits(
        _chosen(train, config, index, index.readable, True),
        _chosen(evaluation, config, eval_index, eval_index.readable, False),
        tuple(lines),
    )


def _chosen(
    source: Source, config: ImageDataConfig, index: Index, numbers: list[int], augment: bool
) -> ImageExamples:
    shapes = [image_size(index.shapes[number]) for number in numbers]
    return ImageExamples(Subset(source, numbers), config, shapes=shapes, augment=augment)


def _lines(source: Source, index: Index) -> list[str]:
    return [f"{source.describe(number)} {reason}" for number, reason in index.unreadable.items()]


def _check_one_size(source: Source, shapes: Sequence[tuple[int, ...]]) -> None:
    other = next((i for i, shape in enumerate(shapes) if shape != shapes[0]), None)
    if other is not None:
        first, second = (f"{h} x {w}" for h, w in (shapes[0], shapes[other]))
        raise ValueError(
            f"images differ in size ({source.describe(0)} is {first}, {source.describe(other)} "
            f"{second}); set data.size"
        )


def _indexed(source: Source, config: ImageDataConfig, file: Path | None) -> Index:
    """The index of a source: the one that was kept, or a new one. Rank 0 reads, all get it."""
    found: Index | str | None = None
    if is_main():
        try:
            found = _read_or_build(source, config, file)
        except (ValueError, OSError) as error:
            found = str(error)
    found = broadcast_object(found)
    if not isinstance(found, Index):
        raise ValueError(found)
    return found


def _read_or_build(source: Source, config: ImageDataConfig, file: Path | None) -> Index:
    if file is not None and file.exists():
        index = Index.load(file)
        index.verify(source, config.path)
    else:
        index = build_index(source, lambda value: decode_image(value).shape[:2])
        _check_readable(source, config, index)
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            index.save(file)
    return index


def _check_readable(source: Source, config: ImageDataConfig, index: Index) -> None:
    lines = _lines(source, index)
    if not lines:
        return
    counted = f"{len(lines)} of {index.num_items} images cannot be read"
    if len(lines) == index.num_items:
        raise ValueError(f"{counted}; the first: {lines[0]}")
    if config.strict:
        raise ValueError(f"{counted}, and data.strict is true; the first: {lines[0]}")
