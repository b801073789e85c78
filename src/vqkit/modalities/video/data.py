"""Clips: their config, random cuts, and the splits of a data set."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.data import Chosen, Example, FileKind, Source, Splits, read_all, read_splits
from vqkit.data.cache import KeptItems
from vqkit.modalities.image.fit import Framing, Resize
from vqkit.modalities.video.decoding import Form, decode_clip
from vqkit.modalities.video.source import CLIPS, Images, open_clip_splits, open_clips
from vqkit.random import hash_int
from vqkit.schema import STRICT, Seed

Positive = Annotated[int, Field(ge=1)]
Rate = Annotated[float, Field(gt=0, le=1000)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VideoDataConfig:
    """Clips, wherever they are, as 8-bit frames of one size."""

    type: Literal["video"] = "video"
    """The kind of data."""
    path: str
    """Folder of films or of folders of frames (folders above them: labels), one film, animation or
    image, Parquet, or hub:owner/name."""
    eval_path: str | None = None
    """Clips for evaluation; left out: a val or test split inside path, or else eval_fraction."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the clips kept for evaluation where no others are named."""
    split_seed: Seed = 0
    """Chooses the clips kept for evaluation."""
    column: str | None = None
    """Column of the clips, for Parquet and the hub; needed where several could be meant."""
    label_column: str | None = None
    """Column of the labels, for Parquet and the hub; left out: label or labels, if there."""
    images: Images = "frames"
    """What images in a folder without films are: the frames of one clip, or stills, clips of one
    frame each. Beside films they are stills in any case."""
    size: Positive | tuple[Positive, Positive] | None = None
    """Height and width in pixels, one number for both; left out: as they are, all the same."""
    resize: Resize = "crop"
    """How frames get that size: crop the excess, stretch, pad with black, or cut unscaled: none."""
    flip: bool = False
    """Whether training mirrors every second clip, by chance."""
    channels: Literal[1, 3] = 3
    """1 for grey, 3 for RGB; frames are converted."""
    fps: Rate | None = None
    """Frames for each second, those that are seen at the time. null: all frames that there are, and
    of folders of frames in any case."""
    every: Positive = 1
    """Of these one in so many is kept: films at a multiple of their speed."""
    frames: Positive | None = 17
    """Frames that training cuts out of a clip, at random; shorter ones stay whole. null: all stay
    whole. Best one more than a multiple of what one code stands for."""
    max_frames: Positive | None = None
    """Most frames of a clip that are read at all, from its beginning. null: all."""
    strict: bool = False
    """Whether an unreadable clip is an error; otherwise it is listed and left out."""
    cache_mb: Annotated[int, Field(ge=0)] = 1024
    """So many MiB of decoded clips are kept in memory."""

    @property
    def form(self) -> Form:
        """What is made of a clip before anything random."""
        window = (self.size, self.size) if isinstance(self.size, int) else self.size
        framing = Framing(window, self.resize, False, self.channels)
        return Form(framing, self.fps, self.every, self.max_frames)

    @property
    def kind(self) -> FileKind:
        """What the items are called."""
        return CLIPS

    def open(self, *, folder: Path | None = None) -> "Splits[VideoExamples]":
        """The clips of a run, split; what was found is kept in the folder.

        Raises:
            FileNotFoundError: If the data are not there.
            ValueError: If they cannot be used, or changed since the run began.
        """
        columns = (self.column, self.label_column)
        sources = open_clip_splits(self.path, self.eval_path, self.images, columns)
        return read_splits(self, sources, partial(VideoReader, config=self), folder=folder)

    def open_all(self) -> "tuple[VideoExamples, tuple[str, ...]]":
        """All clips of ``path`` as one, and one line for each that was left out."""
        source = open_clips(self.path, self.images, (self.column, self.label_column))
        return read_all(source, VideoReader(source, self), self.path, strict=self.strict)


class Clips(KeptItems):
    """The clips of a source, decoded: numbers in, (C, T, H, W) uint8 out.

    Args:
        source: What is read.
        form: What is made of each.
        cache_mb: So many MiB of them are kept in memory; 0 keeps none.
    """

    def __init__(self, source: Source, form: Form, cache_mb: int) -> None:
        super().__init__(source, cache_mb)
        self.form = form

    def read(self, index: int) -> np.ndarray:
        """One clip, not to be written to. (C, T, H, W) uint8

        Raises:
            ValueError: If it cannot be decoded.
            OSError: If its file cannot be read.
        """
        if (kept := self.kept(index)) is not None:
            return kept
        return self._make(index)[0]

    def measure(self, index: int) -> tuple[int, int, int]:
        """Number of frames as they are read, height and width as they are stored."""
        levels, size = self._make(index)
        return (levels.shape[1], *size)

    def _make(self, index: int) -> tuple[np.ndarray, tuple[int, int]]:
        decoded = decode_clip(self.source[index].value, self.form)
        self.keep(index, decoded.levels)
        return decoded.levels, decoded.size


class VideoReader:
    """Decodes the clips of one source.

    Args:
        source: What is read.
        config: Size, channels and cuts.
    """

    def __init__(self, source: Source, config: VideoDataConfig) -> None:
        self.config = config
        self.clips = Clips(source, config.form, config.cache_mb)

    def measure(self, number: int) -> tuple[int, int, int]:
        """Number of frames as they are read, height and width as they are stored."""
        return self.clips.measure(number)

    def items(self, numbers: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> "VideoExamples":
        """The readable clips, which must be of one size where none is set."""
        if self.config.size is None:
            sizes = {number: shapes[number][1:] for number in numbers}
            first = numbers[0]
            other = next((number for number in numbers if sizes[number] != sizes[first]), None)
            if other is not None:
                said = (
                    f"{self.clips.source.describe(each)} is {sizes[each][0]} x {sizes[each][1]}"
                    for each in (first, other)
                )
                raise ValueError(f"clips differ in size ({', '.join(said)}); set data.size")
        return VideoExamples(self.clips, self.config, numbers)


class VideoExamples(Chosen):
    """Clips of any length as examples with x (C, T, H, W) uint8.

    Args:
        clips: Of one source.
        config: What is cut out of them.
        numbers: Those that count, in order; at least one.
        augment: Whether a seed cuts a part out of an example, and mirrors it.
    """

    def __init__(
        self,
        clips: Clips,
        config: VideoDataConfig,
        numbers: Sequence[int],
        *,
        augment: bool = False,
    ) -> None:
        super().__init__(clips.source, tuple(numbers), "clips")
        self.clips, self.config, self.augment = clips, config, augment

    @property
    def fingerprint(self) -> str:
        """Hexadecimal; changes when the data, their choice or what is made of them do."""
        cut = (self.config.frames, self.config.flip) if self.augment else None
        return self.digest(repr((self.config.form, cut)))

    def part(self, numbers: Sequence[int], *, augment: bool = False) -> "VideoExamples":
        """Some clips of the same source, which stay in memory together."""
        return VideoExamples(self.clips, self.config, numbers, augment=augment)

    def example(self, index: int, seed: int | None = None) -> Example:
        """A clip; a part of it where the seed says so, if this is for training.

        Raises:
            ValueError: If it cannot be decoded.
            OSError: If its file cannot be read.
        """
        number = self.numbers[index]
        levels, frames = self.clips.read(number), self.config.frames
        if self.augment and seed is not None:
            start, mirrored = divmod(hash_int(seed) % 2**63, 2)
            if frames is not None:
                start %= max(0, levels.shape[1] - frames) + 1
                levels = levels[:, start : start + frames]
            if self.config.flip and mirrored:
                levels = levels[..., ::-1]
        return Example(torch.from_numpy(levels.copy()), self.source.label(number))
