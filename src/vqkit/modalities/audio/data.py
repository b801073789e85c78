"""Recordings: their config, random crops, and the splits of a data set."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from pydantic.dataclasses import dataclass

from vqkit.data import (
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
from vqkit.data.cache import KeptItems
from vqkit.modalities.audio.decoding import Form, Normalize, decode_sound
from vqkit.random import hash_int
from vqkit.schema import STRICT, Seed

RECORDINGS = FileKind(
    "recording", "recordings", ".aif .aiff .au .caf .flac .mp3 .oga .ogg .opus .w64 .wav"
)
SampleRate = Annotated[int, Field(ge=1000, le=384_000)]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AudioDataConfig:
    """Recordings, wherever they are, as samples of one rate."""

    type: Literal["audio"] = "audio"
    """The kind of data."""
    path: str
    """Folder of recordings (sub-folders: labels), one recording, Parquet, or hub:owner/name."""
    eval_path: str | None = None
    """Recordings for evaluation; left out: a val or test split inside path, or eval_fraction."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the recordings kept for evaluation where no others are named."""
    split_seed: Seed = 0
    """Chooses the recordings kept for evaluation."""
    column: str | None = None
    """Column of the recordings, for Parquet; needed where several could be meant."""
    label_column: str | None = None
    """Column of the labels, for Parquet; left out: label or labels, if there."""
    sample_rate: SampleRate = 24_000
    """Samples per second; recordings of other rates are resampled."""
    channels: Literal[1, 2] = 1
    """1 for mono, 2 for stereo; recordings are mixed, or repeated."""
    crop_s: Annotated[float, Field(gt=0)] | None = 1.0
    """Seconds that training cuts out of a recording, at random; shorter ones stay whole. null: all
    stay whole."""
    normalize: Normalize = "none"
    """peak makes each recording as loud as can be; none leaves it as it is."""
    strict: bool = False
    """Whether an unreadable recording is an error; otherwise it is listed and left out."""
    cache_mb: Annotated[int, Field(ge=0)] = 1024
    """So many MiB of decoded recordings are kept in memory."""

    @property
    def form(self) -> Form:
        """What is made of a recording before anything random."""
        return Form(self.sample_rate, self.channels, self.normalize)

    @property
    def kind(self) -> FileKind:
        """What the items are called."""
        return RECORDINGS

    def open(self, *, folder: Path | None = None) -> "Splits[AudioExamples]":
        """The recordings of a run, split; what was found is kept in the folder.

        Raises:
            FileNotFoundError: If the data are not there.
            ValueError: If they cannot be used, or changed since the run began.
        """
        columns = {"column": self.column, "label_column": self.label_column}
        sources = open_splits(self.path, self.eval_path, **columns, kind=RECORDINGS)
        return read_splits(self, sources, partial(AudioReader, config=self), folder=folder)

    def open_all(self) -> "tuple[AudioExamples, tuple[str, ...]]":
        """All recordings of ``path`` as one, and one line for each that was left out."""
        columns = {"column": self.column, "label_column": self.label_column}
        source = open_source(self.path, **columns, kind=RECORDINGS)
        return read_all(source, AudioReader(source, self), self.path, strict=self.strict)


class Recordings(KeptItems):
    """The recordings of a source, decoded: numbers in, (C, T) float32 out.

    Args:
        source: What is read.
        form: What is made of each.
        cache_mb: So many MiB of them are kept in memory; 0 keeps none.
    """

    def __init__(self, source: Source, form: Form, cache_mb: int) -> None:
        super().__init__(source, cache_mb)
        self.form = form

    def read(self, index: int) -> np.ndarray:
        """One recording, not to be written to. (C, T) float32

        Raises:
            ValueError: If it cannot be decoded.
            OSError: If its file cannot be read.
        """
        if (kept := self.kept(index)) is not None:
            return kept.view(np.float32)
        samples = decode_sound(self.source[index].value, self.form)
        self.keep(index, samples.view(np.uint8))
        return samples


class AudioReader:
    """Decodes the recordings of one source.

    Args:
        source: What is read.
        config: Rate, channels and crops.
    """

    def __init__(self, source: Source, config: AudioDataConfig) -> None:
        self.config = config
        self.recordings = Recordings(source, config.form, config.cache_mb)

    def measure(self, number: int) -> tuple[int]:
        """Number of samples of a recording, as it is read."""
        return (self.recordings.read(number).shape[1],)

    def items(self, numbers: Sequence[int], shapes: Sequence[tuple[int, ...]]) -> "AudioExamples":
        """The readable recordings."""
        return AudioExamples(self.recordings, self.config, numbers)


class AudioExamples(Chosen):
    """Recordings of any length as examples with x (C, T) float32.

    Args:
        recordings: Of one source.
        config: What is cut out of them.
        numbers: Those that count, in order; at least one.
        augment: Whether a seed cuts a part out of an example.
    """

    def __init__(
        self,
        recordings: Recordings,
        config: AudioDataConfig,
        numbers: Sequence[int],
        *,
        augment: bool = False,
    ) -> None:
        super().__init__(recordings.source, tuple(numbers), "recordings")
        self.recordings, self.config, self.augment = recordings, config, augment

    @property
    def fingerprint(self) -> str:
        """Hexadecimal; changes when the data, their choice or what is made of them do."""
        crop = self.config.crop_s if self.augment else None
        return self.digest(repr((self.config.form, crop)))

    def part(self, numbers: Sequence[int], *, augment: bool = False) -> "AudioExamples":
        """Some recordings of the same source, which stay in memory together."""
        return AudioExamples(self.recordings, self.config, numbers, augment=augment)

    def example(self, index: int, seed: int | None = None) -> Example:
        """A recording; a part of it where the seed says so, if this is for training.

        Raises:
            ValueError: If it cannot be decoded.
            OSError: If its file cannot be read.
        """
        number = self.numbers[index]
        samples, crop = self.recordings.read(number), self.config.crop_s
        if self.augment and seed is not None and crop is not None:
            length = max(1, round(crop * self.config.sample_rate))
            spare = max(0, samples.shape[1] - length)
            start = hash_int(seed) % (spare + 1)
            samples = samples[:, start : start + length]
        return Example(torch.from_numpy(samples.copy()), self.source.label(number))
