"""Search on a GPU in one pass: scores stay in registers, and float64 decides close calls there."""

import importlib.util
import os
import shutil
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vqkit.quantizers.search.rounding import terms_on_tensor_cores

OLDEST = (8, 0)  # compute capability of the first tensor cores that multiply float32 numbers
AMPLE = 200_000  # bytes of memory in a processor, as from Hopper on; with less, smaller tiles
RESCORED = 16  # vectors in doubt that share a tile: the fewest that tensor cores multiply at once
RESCORED_COLUMNS = 64
SETTLED = 64
PROGRAMS_PER_PROCESSOR = 2


@dataclass(frozen=True, slots=True)
class Tiles:
    """How much one program holds at once.

    Attributes:
        rows: Vectors.
        columns: Entries.
        depth: Coordinates.
        warps: Warps of 32 threads.
        stages: Tiles of entries under way.
        lanes: Whether each column of a tile remembers its best; for short vectors, whose products
            take less time than the search in them.
    """

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    lanes: bool

    @classmethod
    def of(cls, dim: int, shared: int) -> "Tiles":
        """For vectors of a length, on a device with some bytes of memory in each processor."""
        if dim <= 32:
            return cls(128, 64, 16 if dim <= 16 else 32, 8, 3, True)
        if shared < AMPLE:
            return cls(128, 64, 32, 8, 2, False)
        return cls(128, 64, 64, 8, 3, True) if dim <= 64 else cls(128, 128, 32, 8, 3, False)


@dataclass(frozen=True, slots=True)
class Device:
    """What must be known of a GPU.

    Attributes:
        processors: How many it has.
        shared: Bytes of memory that a program may have in a processor.
    """

    processors: int
    shared: int

    @classmethod
    @cache
    def of(cls, device: torch.device) -> "Device":
        """That of a tensor; without a GPU, one for Triton's interpreter."""
        if device.type != "cuda":
            return cls(2, 2**17)
        found = torch.cuda.get_device_properties(device)
        return cls(found.multi_processor_count, found.shared_memory_per_block_optin)


@cache
def kernels() -> ModuleType | None:
    """The functions in Triton; None without it, or without the C compiler that it calls."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or importlib.util.find_spec("triton") is None:
        return None
    return importlib.import_module("vqkit.quantizers.search.fused_kernels")


def is_possible(z: Tensor, entries: Tensor) -> bool:
    """Whether entries can be searched so: float32, on a GPU that multiplies it on tensor cores."""
    if not (entries.is_cuda and entries.dtype == torch.float32 and torch.version.hip is None):
        return False
    capable = torch.cuda.get_device_capability(entries.device) >= OLDEST
    return capable and kernels() is not None


@dataclass(frozen=True, slots=True)
class Table:
    """What vectors are multiplied by: centred entries as sums of two numbers of 11 digits.

    Attributes:
        entries: As they are. (K, D)
        center: Their mean. (D,)
        big: The first number of each; 0 where no entry or coordinate is. (K', D')
        small: The second. (K', D')
        half: Half the squared lengths; inf where no entry is. (K',)
        longest: The largest of these. ()
        shape: The constants of the kernels that go with it.
    """

    entries: Tensor
    center: Tensor
    big: Tensor
    small: Tensor
    half: Tensor
    longest: Tensor
    shape: dict[str, int]

    @classmethod
    def of(cls, entries: Tensor, tiles: Tiles) -> "Table":
        """The table of entries (K, D)."""
        size, dim = entries.shape
        chunks = cdiv(dim, tiles.depth)
        whole = max(tiles.columns, RESCORED_COLUMNS)
        padded = whole * cdiv(size, whole)
        shape = {"DEPTH": tiles.depth, "CHUNKS": chunks}
        center = entries.mean(0)
        big = entries.new_empty(padded, chunks * tiles.depth)
        small, half = torch.empty_like(big), entries.new_empty(padded)
        functions().prepare[(padded // 32,)](
            entries, center, big, small, half, size, dim, ROWS=32, **shape
        )
        return cls(entries, center, big, small, half, half[:size].amax(), shape)


@dataclass(frozen=True, slots=True)
class Doubts:
    """Vectors whose choice rounding may have swapped.

    Attributes:
        rows: Their numbers, in any order. (N,) int32
        least: No score below can be that of the nearest entry. (N,)
        count: How many there are. (1,) int32
    """

    rows: Tensor
    least: Tensor
    count: Tensor


def search(z: Tensor, entries: Tensor, tiles: Tiles | None = None) -> Tensor:
    """The index of the nearest entry of each vector, the lowest one on ties.

    Scores are products of parts of float32 numbers on tensor cores (Ootomo and Yokota,
    https://arxiv.org/abs/2203.03341). The device lists the vectors whose two best scores are closer
    than rounding allows (``rounding.terms_on_tensor_cores``) and compares distances in float64 for
    these. Nobody waits for it, and memory grows with N + K D only.

    Args:
        z: Vectors. (N, D) float32
        entries: Codebook entries. (K, D) float32
        tiles: The work of one program; None for what suits the device.

    Returns:
        Indices. (N,) int64
    """
    indices = torch.empty(len(z), dtype=torch.int64, device=z.device)
    if len(z) == 0:
        return indices
    with torch.cuda.device_of(z):
        device = Device.of(z.device)
        tiles = tiles or Tiles.of(z.shape[1], device.shared)
        z, table = z.contiguous(), Table.of(entries.contiguous(), tiles)
        doubts = settle(z, table, best(z, table, tiles, device), indices)
        rescore(z, table, doubts, indices, PROGRAMS_PER_PROCESSOR * device.processors)
    return indices


Best = tuple[Tensor, Tensor, Tensor]


def best(z: Tensor, table: Table, tiles: Tiles, device: Device) -> Best:
    """The two best scores of each vector in each part of the entries, and where the best is.

    Few vectors would leave processors idle: then there are more parts.

    Args:
        z: Vectors. (N, D)
        table: That of the entries.
        tiles: The work of one program.
        device: What runs them.

    Returns:
        Three tensors (P, N): float32, float32, int32.
    """
    num, dim = z.shape
    num_tiles, programs = len(table.half) // tiles.columns, cdiv(num, tiles.rows)
    wanted = PROGRAMS_PER_PROCESSOR * device.processors // programs
    in_part = cdiv(num_tiles, max(1, min(wanted, num_tiles)))
    parts = cdiv(num_tiles, in_part)
    first = z.new_empty(parts, num)
    second, where = torch.empty_like(first), torch.empty_like(first, dtype=torch.int32)
    functions().score[(programs, parts)](
        z, table.center, table.big, table.small, table.half, first, second, where,
        num, dim, num_tiles, in_part,
        ROWS=tiles.rows, COLUMNS=tiles.columns, LANES=tiles.lanes, **table.shape,
        num_warps=tiles.warps, num_stages=tiles.stages,
    )  # fmt: skip
    return first, second, where


def settle(z: Tensor, table: Table, found: Best, indices: Tensor) -> Doubts:
    """Writes the choices that are certain; what is no number gets 0.

    Args:
        z: Vectors. (N, D)
        table: That of the entries.
        found: What ``best`` found.
        indices: Where to write. (N,)
    """
    num, dim = z.shape
    rows = torch.empty(num, dtype=torch.int32, device=z.device)
    doubts = Doubts(rows, z.new_empty(num), torch.zeros_like(rows[:1]))
    terms = terms_on_tensor_cores(dim, table.shape["DEPTH"])
    functions().settle[(cdiv(num, SETTLED),)](
        z, table.center, table.longest, *found, indices, rows, doubts.least, doubts.count,
        num, dim, len(table.entries), len(found[0]), terms,
        ROWS=SETTLED, **table.shape,
    )  # fmt: skip
    return doubts


def rescore(z: Tensor, table: Table, doubts: Doubts, indices: Tensor, programs: int) -> None:
    """Writes the choices in doubt, by distance in float64.

    Args:
        z: Vectors. (N, D)
        table: That of the entries.
        doubts: Which they are.
        indices: Where to write. (N,)
        programs: How many share the work, however much there is.
    """
    size, dim = table.entries.shape
    num_tiles = len(table.half) // RESCORED_COLUMNS
    # One slot for each vector and part: parts are more than one only where groups are few.
    room = max(len(z) + RESCORED, programs * RESCORED)
    nearest = torch.empty(room, dtype=torch.float64, device=z.device)
    index = torch.empty(room, dtype=torch.int32, device=z.device)
    functions().rescore[(programs,)](
        z, table.entries, table.center, table.big, table.small, table.half,
        doubts.rows, doubts.least, doubts.count, nearest, index, dim, size, num_tiles,
        ROWS=RESCORED, COLUMNS=RESCORED_COLUMNS, **table.shape,
        num_stages=2, enable_fp_fusion=False,  # a fused sum would not be that of the CPU
    )  # fmt: skip
    functions().finish[(programs,)](
        doubts.rows, doubts.count, nearest, index, indices, programs, num_tiles,
        GROUP=RESCORED, ROWS=SETTLED,
    )  # fmt: skip


def functions() -> Any:
    """The kernels, where they are known to be there."""
    return kernels()


def cdiv(a: int, b: int) -> int:
    """a / b, rounded up."""
    return -(-a // b)
