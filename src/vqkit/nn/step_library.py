"""Functions in C for what is computed position by position: attention, and a few rows' products."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from vqkit.compiled import load

NAME, FILES = "_step", ("attend.c", "product.c", "eight.h")  # see setup.py
NARROW = False  # whether to do without AVX2


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where there are none, or torch is faster on the processor."""
    loaded = load(Path(__file__).parent, NAME, FILES)
    if loaded is None or not loaded.vqkit_is_fast():
        return None
    loaded.vqkit_attend_size.restype = ctypes.c_int64
    return loaded


def is_possible(like: Tensor) -> bool:
    """Whether these functions compute with tensors of such a device and type."""
    return like.is_cpu and like.dtype == torch.float32 and library() is not None
