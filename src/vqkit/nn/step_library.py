"""Functions in C for what is computed position by position: attention, and a few rows' products."""

import ctypes
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from vqkit.compiled import load

NAME = "_step"  # see setup.py
FILES = "attend.c", "product.c", "product_kernel.h", "eight.h"
WIDEST = 16  # numbers of a vector at most, where processors know wider ones than the plainest


@cache
def library() -> ctypes.CDLL | None:
    """The compiled functions; None where there are none, or torch is faster on the processor."""
    loaded = load(Path(__file__).parent, NAME, FILES)
    if loaded is None or not loaded.vqkit_is_fast():
        return None
    where, number = ctypes.c_void_p, ctypes.c_int64
    loaded.vqkit_attend_size.argtypes = [number] * 2
    loaded.vqkit_attend_size.restype = number
    loaded.vqkit_attend.argtypes = [where] * 4 + [number] * 7
    loaded.vqkit_product.argtypes = [where] * 4 + [number] * 6
    return loaded


def is_possible(like: Tensor) -> bool:
    """Whether these functions compute with tensors of such a device and type."""
    return like.is_cpu and like.dtype == torch.float32 and library() is not None
