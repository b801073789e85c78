"""Vectors and files of them, for tests."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


def vectors(num: int = 20, dim: int = 3, *, seed: int = 0) -> np.ndarray:
    """Numbers that float32 holds exactly. (num, dim) float32"""
    return np.random.default_rng(seed).integers(-99, 99, (num, dim)).astype(np.float32) / 8


def write_npy(path: Path, values: np.ndarray) -> Path:
    np.save(path, values)
    return path


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez(path, **arrays)
    return path


def write_csv(path: Path, rows: Sequence[Sequence[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


def write_text(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def write_parquet(path: Path, **columns: object) -> Path:
    pq.write_table(pa.table(columns), path)
    return path
