"""The modalities as their contract sees them: one line each, with tiny data and a tiny config."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from tests.cli.folders import make_images
from tests.modalities.audio.sounds import make_sounds
from tests.modalities.video.clips import make_clips
from torch import Tensor

from vqkit.config import RunConfig, load_config

TRAIN = {
    "steps": 5,
    "batch_size": 8,
    "warmup_steps": 2,
    "checkpoint_every": 2,
    "device": "cpu",
    "progress": "none",
}
Grid = tuple[int, ...]


@dataclass(frozen=True)
class Case:
    """One modality.

    Attributes:
        name: The ``type`` of its data and model.
        make: Writes some items of two classes, 20 or more, into a new folder, and gives what
            to name as ``data.path``; of unequal lengths where the modality has such.
        data: Other settings of the data.
        model: Of the model.
        grids: Lengths that an item may be cut or repeated to; () for what has no places.
        packs: Whether items of unequal lengths in one batch get exactly what they get alone.
    """

    name: str
    make: Callable[[Path], Path]
    data: dict[str, Any]
    model: dict[str, Any]
    grids: tuple[Grid, ...]
    packs: bool = False

    def write(self, folder: Path) -> Path:
        """Makes the data and a config of a run on it; the path of the config."""
        path = self.make(folder / "data")
        run = {
            "data": {"type": self.name, "path": str(path), **self.data},
            "model": {"type": self.name, **self.model},
            "train": TRAIN,
        }
        (folder / "run.yaml").write_text(yaml.safe_dump(run))
        return folder / "run.yaml"

    def config(self, folder: Path) -> RunConfig:
        """The run that ``write`` wrote."""
        return load_config(folder / "run.yaml")


def resized(x: Tensor, grid: Grid) -> Tensor:
    """An item (C, *grid) repeated and cut to other lengths; one without places as it is."""
    for axis, length in enumerate(grid, start=1):
        x = torch.cat([x] * -(-length // x.shape[axis]), axis).narrow(axis, 0, length)
    return x


def make_pictures(folder: Path) -> Path:
    """20 smooth images in two sub-folders."""
    return make_images(folder, 20)


def make_recordings(folder: Path) -> Path:
    """20 noisy tones of unequal lengths in two sub-folders."""
    return make_sounds(folder, 20)


def make_movies(folder: Path) -> Path:
    """24 films, animations and folders of frames of unequal lengths, and a still image."""
    return make_clips(folder, 24)


def make_vectors(folder: Path) -> Path:
    """40 vectors of six numbers around two centres."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    label = np.arange(40) % 2
    x = (rng.normal(size=(40, 6)) + 3 * label[:, None]).astype(np.float32)
    np.savez(folder / "vectors.npz", x=x, label=label)
    return folder / "vectors.npz"


def make_texts(folder: Path) -> Path:
    """24 texts of unequal lengths, in two sub-folders."""
    for i in range(24):
        place = folder / ("songs" if i % 2 else "lists")
        place.mkdir(parents=True, exist_ok=True)
        words = ("la ", "da ") if i % 2 else ("1, ", "2; ")
        text = "".join(words[k % 3 % 2] for k in range(3 + i % 5))
        (place / f"{i:02d}.txt").write_text(text)
    return folder


EMA = {"type": "ema", "codebook_size": 8}
CONV = {"network": {"hidden": 8, "residual_hidden": 4, "num_residual": 1, "dim": 4}}
IMAGE = CONV | {"channels": 1, "quantizer": EMA}
RESIDUAL = {"quantizer": {"type": "residual", "stages": 2, "quantizer": EMA}}
VECTOR = RESIDUAL | {"network": {"type": "mlp", "hidden": [8], "dim": 4}}
CAUSAL = {"patch": 2, "strides": [4], "hidden": 8, "depth": 1, "kernel_size": 3, "dim": 6}
SPECTRAL = {"windows": [16, 64], "bands": 8}
AUDIO = RESIDUAL | {"sample_rate": 8000, "network": CAUSAL, "objective": SPECTRAL}
RATE = {"sample_rate": 8000, "crop_s": 0.03}
VIDEO = {"network": {"patch": 2, "strides": [[2, 2]], "hidden": 8, "depth": 1, "dim": 4}}
VIDEO |= {"quantizer": EMA}
TEXT = {"quantizer": EMA}
TEXT |= {"network": {"symbol_width": 4, "width": 8, "heads": 2, "dim": 4, "decoder_layers": 1}}
GREY, COLUMNS = {"size": 8, "channels": 1}, {"column": "x", "label_column": "label"}

CASES = [  # one line for each modality
    Case("image", make_pictures, GREY, IMAGE, ((8, 8), (4, 12), (16, 8))),
    Case("audio", make_recordings, RATE, AUDIO, ((1,), (7,), (200,), (64,)), packs=True),
    Case("text", make_texts, {}, TEXT, ((6,), (13,), (2,)), packs=True),
    Case("vector", make_vectors, COLUMNS, VECTOR, ((),), packs=True),
    Case("video", make_movies, {"frames": 3}, VIDEO, tuple((t, 8, 8) for t in (1, 5, 2, 8)), True),
]
