"""What do codebooks of up to 262,144 entries cost to start, to train and to encode with?

Run: python benchmarks/bench_scale.py [ROW ...]
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from measuring import extra_mb, heading, in_own_process

from vqkit.quantizers import (
    BinarySphericalQuantizer,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    IndexBackpropQuantizer,
    LookupFreeQuantizer,
    Quantizer,
    SimVQuantizer,
    VectorQuantizer,
)
from vqkit.quantizers.kmeans import kmeans

DIM = 16
BITS = (16, 17, 18)
STARTED_FROM = (2**14, 2**17)  # vectors
SMALL = 64


@dataclass(frozen=True)
class Row:
    """A kind of layer.

    Attributes:
        make: Makes it from the number of bits of an index.
        num: Number of vectors N of a step.
        dim: Length D of each, from the number of bits.
    """

    make: Callable[[int], Quantizer]
    num: int = 4096
    dim: Callable[[int], int] = lambda _: DIM


def levels(bits: int) -> list[int]:
    return [2] * (bits % 3) + [8] * (bits // 3)


ROWS = {
    "EMA": Row(lambda bits: EMAVectorQuantizer(DIM, 2**bits)),
    "VQ": Row(lambda bits: VectorQuantizer(DIM, 2**bits)),
    "SimVQ": Row(lambda bits: SimVQuantizer(DIM, 2**bits)),
    # Both weigh all entries for every vector.
    "Gumbel": Row(lambda bits: GumbelQuantizer(DIM, 2**bits), num=256),
    "IBQ": Row(lambda bits: IndexBackpropQuantizer(DIM, 2**bits), num=256),
    "FSQ": Row(lambda bits: FiniteScalarQuantizer(levels(bits)), dim=lambda b: len(levels(b))),
    "LFQ": Row(LookupFreeQuantizer, dim=lambda bits: bits),
    "BSQ": Row(BinarySphericalQuantizer, dim=lambda bits: bits),
}


def step(layer: Quantizer, num: int) -> None:
    """One training step but for the optimizer's."""
    z_e = torch.randn(num, layer.dim, requires_grad=True)
    out = layer(z_e)
    (out.z_q.sum() + out.loss).backward()


def measured(task: Callable[[], object]) -> str:
    """Growth of the peak in MB, and seconds of the process."""
    start = time.process_time()
    grown = extra_mb(task)
    return f"{grown:6.0f} MB {time.process_time() - start:7.2f} s"


def one(name: str, bits: int) -> None:
    """Prints what a layer costs that was made, started and used in this process alone."""
    row, torch_warm = ROWS[name], ROWS[name].make(6)
    step(torch_warm, SMALL)  # what is loaded on first use is not counted
    layer = row.make(bits)
    first = measured(lambda: step(layer, row.num))
    second = measured(lambda: step(layer, row.num))
    z = torch.randn(row.num, layer.dim)
    print(f"{first}  {second}  {measured(lambda: layer.eval().encode(z))}")


def start(num: int, bits: int) -> None:
    vectors = torch.randn(num, DIM)
    kmeans(vectors[:SMALL], SMALL // 2, seed=0)
    print(measured(lambda: kmeans(vectors, 2**bits, seed=0)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="all when left out")
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--start", nargs=2, type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.one:
        one(options.one[0], int(options.one[1]))
        return
    if options.start:
        start(*options.start)
        return
    print(heading("Large codebooks: memory and time to start, to train and to encode"))
    print("Growth of the peak memory and process CPU time, each line in a process of its own; the")
    print("first step starts the codebook. A table of K entries of length 16 has 4, 8 and 17 MB.")
    for name in options.rows or ROWS:
        print(f"\n{name}; N {ROWS[name].num:,}")
        print(f"  {'K':>8} {'D':>3}  {'first step':<20}  {'second step':<20}  encode")
        for bits in BITS:
            found = in_own_process("--one", name, bits)
            print(f"  {2**bits:>8,} {ROWS[name].dim(bits):>3}  {found}", flush=True)
    print(f"\nk-means start, D {DIM}")
    for num in STARTED_FROM:
        for bits in BITS:
            found = in_own_process("--start", num, bits)
            print(f"  {2**bits:>8,} entries from {num:>8,} vectors  {found}", flush=True)


if __name__ == "__main__":
    main()
