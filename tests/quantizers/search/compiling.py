"""Compiles the kernels of the fused search for a device that need not be there.

Run by test_fused.py, in a process whose Triton does not interpret: CAPABILITY DIM
"""

import re
import sys

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from vqkit.quantizers.search import fused_kernels as kernels
from vqkit.quantizers.search.fused import RESCORED, RESCORED_COLUMNS, SETTLED, Tiles, cdiv

SHARED = {80: 166_912, 86: 101_376, 90: 232_448}  # bytes, by the tables of CUDA
TYPES = {
    "*i64": {"indices"},
    "*i32": {"where_out", "wheres", "doubted", "counter", "index_out", "index"},
    "*fp64": {"nearest_out", "nearest"},
    "i32": {"num", "dim", "size", "num_tiles", "in_part", "num_parts", "terms", "num_programs"},
}


def compiled(function, capability: int, constants: dict[str, int], **options: object):
    types = {name: kind for kind, names in TYPES.items() for name in names}
    names = [parameter.name for parameter in function.params]
    signature = {
        name: "constexpr" if name in constants else types.get(name, "*fp32") for name in names
    }
    aligned = {
        (i,): [["tt.divisibility", 16]]
        for i, name in enumerate(names)
        if signature[name].startswith("*")
    }
    source = ASTSource(function, signature, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def main(capability: int, dim: int) -> None:
    tiles = Tiles.of(dim, SHARED[capability])
    shape = {"DEPTH": tiles.depth, "CHUNKS": cdiv(dim, tiles.depth)}
    scored = {"ROWS": tiles.rows, "COLUMNS": tiles.columns, "LANES": tiles.lanes, **shape}
    doubted = {"ROWS": RESCORED, "COLUMNS": RESCORED_COLUMNS, **shape}
    found = {
        "prepare": compiled(kernels.prepare, capability, {"ROWS": 32, **shape}),
        "score": compiled(
            kernels.score, capability, scored, num_warps=tiles.warps, num_stages=tiles.stages
        ),
        "settle": compiled(kernels.settle, capability, {"ROWS": SETTLED, **shape}),
        "rescore": compiled(
            kernels.rescore, capability, doubted, num_stages=2, enable_fp_fusion=False
        ),
        "finish": compiled(kernels.finish, capability, {"GROUP": RESCORED, "ROWS": SETTLED}),
    }
    for name, kernel in found.items():
        assert kernel.metadata.shared <= SHARED[capability], name
        print(name)
    assert "fma.rn.f64" not in found["rescore"].asm["ptx"]
    products = r"(mma|wgmma)\S*\.tf32\.tf32"
    assert all(re.search(products, found[name].asm["ptx"]) for name in ("score", "rescore"))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
