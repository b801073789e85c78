"""What vectors, masks and sizes have to be."""

import operator
from collections.abc import Sequence
from numbers import Real

import torch
from torch import Tensor

PRECISIONS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
Batch = Tensor | Sequence[Tensor | None]  # alone, or as a tuple or list with its mask


class NotFinite(ValueError):
    """Encoder outputs hold NaN or infinity."""


def check_tensor(x: object, name: str, length: int | str) -> None:
    """Raises TypeError unless ``x`` is a tensor, whose last axis is to have that length."""
    if not isinstance(x, Tensor):
        kind = type(x).__name__
        raise TypeError(f"{name}: give a tensor (..., {length}), not a {kind}")


def check_vectors(z_e: Tensor, dim: int) -> None:
    """Raises an error unless the last axis holds vectors of length ``dim``, of real numbers."""
    check_tensor(z_e, "z_e", dim)
    if z_e.dtype not in PRECISIONS:
        raise TypeError(f"z_e is {z_e.dtype}; give floating-point numbers of 16 bits or more")
    if z_e.layout != torch.strided:
        raise TypeError(f"z_e is {z_e.layout}; give a dense tensor, such as z_e.to_dense()")
    if z_e.dim() == 0 or z_e.shape[-1] != dim:
        raise ValueError(
            f"z_e has shape {tuple(z_e.shape)}, and its last axis should be the {dim} "
            "coordinates of a vector; move the channels there, or change dim"
        )


def checked_batch(batch: Batch) -> tuple[Tensor, Tensor | None]:
    """The tensor of a batch, and its mask if there is one.

    Raises:
        TypeError: If it is no tensor, and no tuple or list of a tensor and a mask.
    """
    parts = tuple(batch) if isinstance(batch, tuple | list) else (batch,)
    x, mask = (*parts, None)[:2] if parts else (None, None)
    if len(parts) > 2 or not isinstance(x, Tensor) or not isinstance(mask, Tensor | None):
        kinds = ", ".join(type(part).__name__ for part in parts)
        raise TypeError(f"a batch is of {kinds or 'nothing'}; give a tensor, or (tensor, mask)")
    return x, mask


def whole(number: int, name: str, least: int) -> int:
    """``number`` itself; raises an error unless it is an integer of at least ``least``."""
    try:
        number = operator.index(number)
    except TypeError:
        raise TypeError(f"{name} is {number!r}; give an integer") from None
    if number < least:
        raise ValueError(f"{name} is {number}; give at least {least}")
    return number


def whole_seed(seed: int | Tensor) -> int:
    """``seed`` as an integer; raises an error unless it is one of int64."""
    seed = whole(seed, "seed", -(2**63))  # pyright: ignore[reportArgumentType]
    if seed >= 2**63:
        raise ValueError(f"seed is {seed}; give less than 2^63")
    return seed


def truth(x: bool, name: str) -> bool:
    """``x`` itself; raises TypeError unless it is True or False."""
    if not isinstance(x, bool):
        raise TypeError(f"{name} is {x!r}; give True or False")
    return x


def numeric(x: float, name: str) -> float:
    """``x`` itself; raises TypeError unless it is a number."""
    if isinstance(x, bool) or not isinstance(x, Real):
        raise TypeError(f"{name} is {x!r}; give a number")
    return x


def are_finite(x: Tensor) -> bool:
    """Whether a tensor holds neither NaN nor infinity; waits for the device. (...)"""
    total = x.detach().sum(dtype=torch.promote_types(x.dtype, torch.float32))
    # One pass without a copy; a sum of large finite numbers may still overflow.
    return bool(total.isfinite()) or bool(x.isfinite().all())


def checked_entries(entries: Tensor, dim: int | str, dtype: torch.dtype) -> Tensor:
    """Entries (M, D) in the precision of a codebook; raises an error unless they are such."""
    check_tensor(entries, "entries", dim)
    if entries.is_complex():
        raise TypeError(f"entries are {entries.dtype}; give real numbers")
    shape, entries = tuple(entries.shape), entries.to(dtype)  # which may make them infinite
    if len(shape) != 2 or dim not in (shape[1], "D") or not are_finite(entries):
        precision = str(dtype).removeprefix("torch.")
        raise ValueError(
            f"entries have shape {shape}; give (M, {dim}) numbers that are finite in {precision}"
        )
    return entries


def check_finite(z_e: Tensor) -> None:
    """Raises NotFinite, with the count, if some vectors hold NaN or infinity. (..., D)"""
    if are_finite(z_e):
        return
    bad = z_e.isfinite().all(-1).logical_not_()
    raise NotFinite(
        f"z_e has {int(bad.sum())} of {bad.numel()} vectors that are not finite; look at the "
        "encoder: a lower learning rate, gradient clipping, or its input"
    )


def check_range(rows: Tensor, sizes: tuple[int, ...]) -> None:
    """Raises ValueError, with the count, if indices are not below the codebook sizes. (N, Q)"""
    wrong = (rows < 0) | (rows >= torch.tensor(sizes, device=rows.device))
    if wrong.any():
        low, high = rows.amin().item(), rows.amax().item()
        raise ValueError(
            f"{wrong.sum().item()} of {rows.numel()} indices are out of range: they go "
            f"from {low} to {high}, the codebook sizes are {sizes}"
        )


def mask_out(x: Tensor, mask: Tensor | None) -> Tensor:
    """Zeros at masked positions: what padding held, NaN included, has no effect and no gradient.

    Args:
        x: Vectors or indices. (..., D)
        mask: True where a position is real; None when all are. (...) bool

    Returns:
        ``x``, zero where the mask is False. (..., D)

    Raises:
        ValueError: If the mask has not one boolean per position.
    """
    if mask is None:
        return x
    check_tensor(mask, "mask", "without the last axis of z_e")
    if mask.dtype != torch.bool:
        raise ValueError(f"mask is {mask.dtype}; give booleans, True where a position is real")
    if mask.shape != x.shape[:-1]:
        shapes = f"{tuple(mask.shape)}, but the positions are {tuple(x.shape[:-1])}"
        raise ValueError(f"mask has shape {shapes}; give it one element per vector")
    return x.masked_fill(~mask.unsqueeze(-1), 0)
