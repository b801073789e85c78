"""Images: their config, augmentation, and the splits of a data set."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.data import (
    IMAGES,
    Chosen,
    Example,
    FileKind,
    Source,
    Splits,
    open_source,
    open_splits,
    read_all,
    read_splits,
)
from vqkit.modalities.image.canvas import Canvases
from vqkit.modalities.image.fit import Framing, Resize
from vqkit.random import hash_int
from vqkit.schema import STRICT, Seed

Side = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ImageDataConfig:
    """Images, wherever they are, as 8-bit pixels of one size."""

    type: Literal["image"] = "image"
    """The kind of data."""
    path: str
    """Folder of images (sub-folders: labels), Parquet, idx, npy, npz, digits, or hub:owner/name."""
    eval_path: str | None = None
    """Images for evaluation; left out: a val or test split inside path, or else eval_fraction."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the images kept for evaluation where no others are named."""
    split_seed: Seed = 0
    """Chooses the images kept for evaluation."""
    column: str | None = None
    """Column of the images, for Parquet, npz and the hub; needed where several could be meant."""
    label_column: str | None = None
    """Column of the labels, for Parquet, npz and the hub; left out: label or labels, if there."""
    size: Side | tuple[Side, Side] | None = None
    """Height and width in pixels, one number for both; left out: as they are, all the same."""
    resize: Resize = "crop"
    """How images get that size: crop the excess, stretch, pad with black, or cut unscaled: none."""
    crop: Literal["center", "random"] = "center"
    """Where training cuts the excess off; evaluation keeps the centre."""
    flip: bool = False
    """Whether training mirrors every second image, by chance."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for RGB; images are converted."""
    strict: bool = False
    """Whether an unreadable image is an error; otherwise it is listed and left out."""
    cache_mb: Annotated[int, Field(ge=0)] = 1024
    """So many MiB of decoded images are kept in memory."""

    @property
    def framing(self) -> Framing:
        """What is made of an image before anything random."""
        window = (self.size, self.size) if isinstance(self.size, int) else self.size
        slack = self.crop == "random" and window is not None
        return Framing(window, self.resize, slack, self.channels)

    @property
    def kind(self) -> FileKind:
        """What the items are called."""
        return IMAGES

    def open(self, *, folder: Path | None = None) -> "Splits[ImageExamples]":
        """The images of a run; see ``open_images``."""
        return open_images(self, folder=folder)

    def open_all(self) -> "tuple[ImageExamples, tuple[str, ...]]":
        """All images as one; see ``open_all_images``."""
        return open_all_images(self)


class ImageExamples(Chosen):
    """Images of one size as examples with x (C, H, W) uint8.

    Args:
        source: What is read.
        config: Size, channels and augmentation.
        numbers: The items of the source that count, in order; all when None.
        augment: Whether a seed changes the example, by random crops and flips.
        canvases: Images that are decoded already; made when None.

    Raises:
        ValueError: If there are no images, or the first cannot be read and its size is needed.
    """

    def __init__(
        self,
        source: Source,
        config: ImageDataConfig,
        *,
        numbers: Sequence[int] | None = None,
        augment: bool = False,
        canvases: Canvases | None = None,
    ) -> None:
        own = range(len(source)) if numbers is None else tuple(numbers)
        super().__init__(source, own, "images")
        self.config, self.augment = config, augment
        self.canvases = canvases or Canvases(source, config.framing, config.cache_mb)
        self._framing = config.framing
        height, width = self._framing.window or self.canvases.read(self.numbers[0]).shape[1:]
        self.shape = (config.channels, height, width)

    @property
    def fingerprint(self) -> str:
        """Hexadecimal; changes when the data, their choice or their size do."""
        return self.digest(repr((self._framing, self.augment and self.config.flip)))

    def part(self, numbers: Sequence[int], *, augment: bool = False) -> "ImageExamples":
        """Some images of the same source, which stay in memory together."""
        canvases = self.canvases
        return ImageExamples(
            self.source, self.config, numbers=numbers, augment=augment, canvases=canvases
        )

    def example(self, index: int, seed: int | None = None) -> Example:
        """An image; cut and mirrored as the seed says if this is for training.

        Raises:
            ValueError: If it cannot be decoded, or has not the size of the others.
            OSError: If its file cannot be read.
        """
        number = self.numbers[index]
        canvas = self.canvases.read(number)
        _, height, width = self.shape
        spare = canvas.shape[1] - height, canvas.shape[2] - width
        if self._framing.window is None and spare != (0, 0):
            found = f"{canvas.shape[1]} x {canvas.shape[2]}"
            raise ValueError(f"is {found}, the first image {height} x {width}; set data.size")
        top, left = spare[0] // 2, spare[1] // 2
        if self.augment and seed is not None:
            bits, mirrored = divmod(hash_int(seed) % 2**63, 2)
            if self._framing.slack:
                bits, top = divmod(bits, spare[0] + 1)
                left = bits % (spare[1] + 1)
            if self.config.flip and mirrored:
                canvas = canvas[:, :, ::-1]
        window = canvas[:, top : top + height, left : left + width]
        return Example(torch.from_numpy(window.copy()), self.source.label(number))


class ImageReader:
    """Decodes the images of one source.

    Args:
        source: What is read.
        config: Size and channels.
    """

    def __init__(self, source: Source, config: ImageDataConfig) -> None:
        self.source, self.config = source, config
        self.canvases = Canvases(source, config.framing, config.cache_mb)

    def measure(self, number: int) -> tuple[int, int]:
        """Height and width of an image as it is stored."""
        return self.canvases.measure(number)

    def items(self, numbers: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> ImageExamples:
        """The readable images, which must be of one size where none is set."""
        if self.config.framing.window is None:
            _check_one_size(self.source, shapes, numbers)
        return ImageExamples(self.source, self.config, numbers=numbers, canvases=self.canvases)


def open_images(config: ImageDataConfig, *, folder: Path | None = None) -> Splits[ImageExamples]:
    """Opens the images of a config, reads each once to find unreadable ones, and splits them.

    Args:
        config: Names the data.
        folder: The run's folder: what was found is kept there, and on the next call the data must
            still be the same. None: nothing is kept.

    Raises:
        FileNotFoundError: If the data are not there.
        ValueError: If they cannot be used, or changed since the run began.
    """
    sources = open_splits(
        config.path, config.eval_path, column=config.column, label_column=config.label_column
    )
    found = read_splits(config, sources, partial(ImageReader, config=config), folder=folder)
    if found.evaluation.shape != found.train.shape:
        raise ValueError(
            f"images for training are {found.train.shape}, for evaluation "
            f"{found.evaluation.shape} (channels, height, width); set data.size"
        )
    return found


def open_all_images(config: ImageDataConfig) -> tuple[ImageExamples, tuple[str, ...]]:
    """Opens all readable images of ``config.path`` as one, without split and augmentation.

    Returns:
        The images, and one line for each that was left out.

    Raises:
        FileNotFoundError: If the data are not there.
        ValueError: If they cannot be used.
    """
    source = open_source(config.path, column=config.column, label_column=config.label_column)
    return read_all(source, ImageReader(source, config), config.path, strict=config.strict)


def _check_one_size(
    source: Source, shapes: Sequence[tuple[int, ...]], numbers: Sequence[int]
) -> None:
    first = numbers[0]
    other = next((number for number in numbers if shapes[number] != shapes[first]), None)
    if other is not None:
        a, b = (f"{source.describe(n)} is {shapes[n][0]} x {shapes[n][1]}" for n in (first, other))
        raise ValueError(f"images differ in size ({a}, {b}); set data.size")
