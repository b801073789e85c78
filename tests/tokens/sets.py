"""Token sets of made-up codes, without a tokenizer: any levels, codebooks, shapes and masks."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from vqkit.codes import Codes, Level, LevelSpec
from vqkit.tokens import TokenSet
from vqkit.tokens.rows import Row, row
from vqkit.tokens.shards import Header, write_shard

KINDS: dict[str, tuple[LevelSpec, ...]] = {
    "flat": (LevelSpec((2, 3), (16,)),),
    "residual": (LevelSpec((5,), (16, 16, 300), "residual"),),
    "levels": (LevelSpec((2, 2), (7,)), LevelSpec((4, 4), (5, 9), "product")),
    "vectors": (LevelSpec((), (4, 4, 4), "residual"),),
    "large": (LevelSpec((3,), (70_000, 20), "product"),),
}


def codes_like(specs: Sequence[LevelSpec], seed: int, *, holes: bool = False) -> Codes:
    """Random codes of one item; some positions not real if it has holes."""
    generator = torch.Generator().manual_seed(seed)
    levels = []
    for spec in specs:
        shape = (1, *spec.grid)
        drawn = [torch.randint(0, k, shape, generator=generator) for k in spec.codebook_sizes]
        indices, mask = torch.stack(drawn, dim=-1), None
        if holes:
            mask = torch.rand(shape, generator=generator) < 0.7
            indices = indices * mask.unsqueeze(-1)
        levels.append(Level(indices, spec.codebook_sizes, spec.structure, mask))
    return Codes(tuple(levels))


def token_set(
    folder: Path, kind: str, num: int = 23, *, ragged: bool = False, labels: bool = True
) -> TokenSet:
    """A token set; if ragged, its items are of several lengths, and every third has holes."""
    specs, items = KINDS[kind], []
    for i in range(num):
        own = [
            replace(spec, grid=tuple(n + (i % 3) * (axis == 0) for axis, n in enumerate(spec.grid)))
            for spec in specs
        ]
        codes = codes_like(own if ragged else specs, i, holes=ragged and i % 3 == 1)
        size = (100 + i, 7) if ragged else None
        items.append(row(codes, f"item {i}", i % 2 if labels else None, size))
    return written(folder, specs, items, ("cat", "dog") if labels else ())


def write_tokens(folder: Path, specs: Sequence[LevelSpec], codes: np.ndarray) -> TokenSet:
    """A token set of items of one size; their codes in a row (N, L)."""
    shape = tuple((*spec.grid, len(spec.codebook_sizes)) for spec in specs)
    return written(folder, specs, [Row(f"item {i}", own, shape) for i, own in enumerate(codes)])


def written(
    folder: Path, specs: Sequence[LevelSpec], items: Sequence[Row], labels: Sequence[str] = ()
) -> TokenSet:
    """A token set of these rows, ten in a file."""
    shard_size = 10
    header = Header(
        tokenizer="0123456789abcdef",
        source="fedcba9876543210",
        labels=tuple(labels),
        levels=tuple(specs),
        vocabulary=max(size for spec in specs for size in spec.codebook_sizes),
        num_items=len(items),
        shard_size=shard_size,
        num_shards=-(-len(items) // shard_size),
    )
    folder.mkdir(parents=True)
    for shard in map(header.at, range(header.num_shards)):
        write_shard(folder / shard.name, shard, [[items[i] for i in shard.items]])
    return TokenSet.open(folder)
