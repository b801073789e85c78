"""Tiny data and runs for the command line: seconds in all."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

TINY = [
    "data.size=8",
    "model.network.hidden=8",
    "model.network.residual_hidden=4",
    "model.network.num_residual=1",
    "model.network.dim=4",
    "model.quantizer.codebook_size=8",
    "train.steps=4",
    "train.batch_size=8",
    "train.checkpoint_every=2",
    "train.device=cpu",
]
TINY_PRIOR = [
    "prior.layers=1",
    "prior.width=16",
    "prior.heads=2",
    "train.steps=3",
    "train.batch_size=8",
    "train.device=cpu",
]


def make_images(folder: Path, num: int = 12, classes: Sequence[str] = ("cat", "dog")) -> Path:
    """Smooth random RGB images of 12 x 10 pixels, in a sub-folder for each class."""
    rng = np.random.default_rng(0)
    for i in range(num):
        place = folder / classes[i % len(classes)] if classes else folder
        place.mkdir(parents=True, exist_ok=True)
        small = rng.integers(0, 256, (3, 3, 3), dtype=np.uint8)
        Image.fromarray(small).resize((10, 12)).save(place / f"{i:03d}.png")
    return folder


def vqkit(*words: object, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    """Runs ``python -m vqkit`` as a shell would."""
    return subprocess.run(
        [sys.executable, "-m", "vqkit", *map(str, words)],
        capture_output=True,
        text=True,
        cwd=cwd,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", **env},
    )
