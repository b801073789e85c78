"""The idx format of MNIST, plain or gzipped."""

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read_idx(path: Path) -> np.ndarray:
    """The array of an idx file.

    Args:
        path: A file that begins with the bytes 0, 0, type and number of axes, or its gzip.

    Raises:
        ValueError: If the file is cut, damaged or no idx file.
    """
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            data = file.read()
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is cut or damaged ({error}); copy it again") from None
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in TYPES or not data[3]:
        start = data[:4].hex(" ") or "nothing"
        raise ValueError(f"{path} is not an idx file: it begins with {start}; name an idx file")
    dtype = np.dtype(TYPES[data[2]])
    start = 4 + 4 * data[3]
    shape = tuple(int(size) for size in np.frombuffer(data[4:start], ">u4"))
    wanted = math.prod(shape) * dtype.itemsize
    if len(shape) != data[3] or len(data) - start != wanted:
        raise ValueError(
            f"{path} is cut or damaged: after the header come {max(0, len(data) - start)} bytes, "
            f"the shape {shape} needs {wanted}; copy it again"
        )
    return np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))


def labels_beside(path: Path) -> Path | None:
    """The labels file that belongs to an images file by its name; None when it is not there."""
    name = path.name.replace("images", "labels").replace("idx3", "idx1")
    for candidate in (name, name.removesuffix(".gz"), f"{name}.gz"):
        if candidate != path.name and path.with_name(candidate).is_file():
            return path.with_name(candidate)
    return None
