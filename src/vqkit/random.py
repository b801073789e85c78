"""Random numbers that are a pure function of integers, the same on every rank and machine."""

from typing import overload

import torch
from torch import Tensor

GOLDEN = 0x9E3779B97F4A7C15
MIX = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
WORD = 2**64


def _signed(word: int) -> int:
    """A 64-bit word as the int64 with the same bits."""
    return (word + 2**63) % WORD - 2**63


@overload
def _scramble(x: int) -> int: ...
@overload
def _scramble(x: Tensor) -> Tensor: ...
def _scramble(x: int | Tensor) -> int | Tensor:
    """One output of splitmix64 for each state, https://prng.di.unimi.it/splitmix64.c."""
    for shift, factor in MIX:
        if isinstance(x, Tensor):
            x = (x ^ ((x >> shift) & ((1 << (64 - shift)) - 1))) * _signed(factor)
        else:
            x = _signed((x ^ ((x % WORD) >> shift)) * factor)
    if isinstance(x, Tensor):
        return x ^ ((x >> 31) & ((1 << 33) - 1))
    return _signed(x ^ ((x % WORD) >> 31))


def hash_int(*words: int) -> int:
    """One integer of 64 well-mixed bits for a tuple of integers.

    Args:
        words: What the number depends on, such as (seed, step, item); their order matters.

    Returns:
        An integer of the range of int64.
    """
    state = 0
    for word in words:
        state = _scramble(_signed((state ^ _signed(word)) + GOLDEN))
    return state


def hash_tensor(*words: int | Tensor) -> Tensor:
    """``hash_int`` for every element of integer tensors that broadcast, at least one of them.

    Args:
        words: Integers or tensors. (...) int64

    Returns:
        Mixed bits. (...) int64
    """
    if not any(isinstance(word, Tensor) for word in words):
        raise TypeError("no word is a tensor; use hash_int")
    state: int | Tensor = 0
    for word in words:
        if isinstance(word, Tensor) and (word.is_floating_point() or word.dtype == torch.bool):
            raise TypeError(f"a word is a tensor of {word.dtype}; give integers")
        value = word.long() if isinstance(word, Tensor) else _signed(word)
        mixed = state ^ value
        if isinstance(mixed, Tensor):
            state = _scramble(mixed + _signed(GOLDEN))
        else:
            state = _scramble(_signed(mixed + GOLDEN))
    assert isinstance(state, Tensor)
    return state


def uniform(*words: int | Tensor) -> Tensor:
    """Uniform numbers strictly between 0 and 1, one for each element of the tensors.

    Args:
        words: What each number depends on, at least one a tensor. (...) int64

    Returns:
        Numbers with 52 random bits. (...) float64
    """
    bits = (hash_tensor(*words) >> 12) & (2**52 - 1)
    return (bits.double() + 0.5) * 2.0**-52


def uniform_rows(*words: int | Tensor, size: int) -> Tensor:
    """So many uniform numbers strictly between 0 and 1 for each element of the tensors.

    Cheaper than ``uniform`` with one more word: each row is the stream of splitmix64 that starts
    from the words' mixed bits.

    Args:
        words: What each row depends on, at least one a tensor. (...) int64
        size: Length of a row M.

    Returns:
        Numbers with 52 random bits. (..., M) float64
    """
    state = hash_tensor(*words).unsqueeze(-1)
    places = torch.arange(1, size + 1, device=state.device) * _signed(GOLDEN)
    bits = (_scramble(state + places) >> 12) & (2**52 - 1)
    return (bits.double() + 0.5) * 2.0**-52


def generator(*words: int) -> torch.Generator:
    """A CPU generator seeded by a tuple of integers: for shuffles and initial weights."""
    return torch.Generator().manual_seed(hash_int(*words))
