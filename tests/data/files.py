"""Small data sets that are made on the fly."""

import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def picture(seed: int = 0, height: int = 8, width: int = 8) -> np.ndarray:
    """Random pixels. (H, W, 3) uint8"""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image | np.ndarray, kind: str = "png", **options: Any) -> bytes:
    """The bytes of an image file."""
    image = Image.fromarray(image) if isinstance(image, np.ndarray) else image
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def write_folder(root: Path, names: Sequence[str], height: int = 8, width: int = 8) -> Path:
    """A folder of PNG files, each with other pixels."""
    for seed, name in enumerate(names):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(picture(seed, height, width)))
    return root


def write_parquet(
    path: Path,
    count: int = 10,
    *,
    labels: Sequence[Any] | None = None,
    metadata: dict[bytes, bytes] | None = None,
    row_group_size: int = 4,
    plain: bool = False,
) -> Path:
    """A Parquet file as the hub stores images, or with a plain binary column."""
    path.parent.mkdir(parents=True, exist_ok=True)
    files = [encoded(picture(seed)) for seed in range(count)]
    values = files if plain else [{"bytes": data, "path": None} for data in files]
    columns: dict[str, Any] = {"image": values}
    if plain:
        columns["image"] = pa.array(files, pa.binary())
    if labels is not None:
        columns["label"] = labels
    columns["name"] = [f"{seed}.png" for seed in range(count)]
    table = pa.table(columns).replace_schema_metadata(metadata)
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def write_idx(path: Path, array: np.ndarray) -> Path:
    """An idx file of bytes, gzipped where the name says so."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    data = header + array.astype(np.uint8).tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path
