"""How near is the exact search to the matrix product inside it, in time and memory?

Run: python benchmarks/bench_search.py
"""

import statistics
import sys

import faiss
import torch
from measuring import Task, cpu_ms, extra_mb, heading, in_own_process
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from vqkit.quantizers.search import compiled, flat, nearest, products

SIZES = (
    (8_192, 512, 64),
    (65_536, 1_024, 64),
    (16_384, 8_192, 32),
    (16_384, 16_384, 8),
    (4_096, 65_536, 64),
    (65_536, 256, 256),
    (16_384, 8_192, 64),
    (4_096, 8_192, 128),
)
# times the product alone
TARGETS = dict.fromkeys([*SIZES[:3], *SIZES[4:]], 2.3)
COMPILED_TARGETS = dict.fromkeys([*SIZES[:3], *SIZES[6:], SIZES[4]], 1.2) | {SIZES[5]: 1.4}
MEMORY_SIZES = (SIZES[1], SIZES[6])  # at most 30 MB
ROUNDS = 7
CHUNK = 2**20
BRUTE_FORCED = 512
LARGEST = 2**30  # bytes of scores that a peer may hold at once here
MODEST = ("vqkit", "vqkit, torch", "vqkit, faiss", "faiss")


def expanded(z: Tensor, entries: Tensor) -> Tensor:
    """The usual code."""
    norms = z.square().sum(1, keepdim=True) + entries.square().sum(1)
    return (norms - 2 * z @ entries.T).argmin(1)


def product_in_chunks(z: Tensor, entries: Tensor) -> Task:
    """The scores alone, a chunk of rows at a time, all in the same memory."""
    chunks = z.split(max(1, CHUNK // len(entries)))
    out = torch.empty(len(chunks[0]), len(entries))

    def run() -> None:
        for chunk in chunks:
            torch.mm(chunk, entries.T, out=out[: len(chunk)])

    return run


def product_whole(z: Tensor, entries: Tensor) -> Task:
    """The scores alone, written at once to memory that is there already."""
    out = torch.empty(len(z), len(entries))
    return lambda: torch.mm(z, entries.T, out=out)


def tasks(z: Tensor, entries: Tensor) -> dict[str, Task]:
    """What is measured, by name."""
    size, dim = entries.shape
    peer = VectorQuantize(dim=dim, codebook_size=size).eval()
    index = faiss.IndexFlatL2(dim)
    index.add(entries.numpy())
    return {
        "vqkit": lambda: nearest(z, entries),
        "vqkit, torch": lambda: products.search(z, entries),
        "vqkit, faiss": lambda: flat.search(z, entries),
        "expanded": lambda: expanded(z, entries),
        "cdist": lambda: torch.cdist(z, entries).argmin(1),
        "faiss": lambda: index.search(z.numpy(), 1),
        "peer": lambda: peer(z.unsqueeze(0)),
    }


def inputs(num: int, size: int, dim: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(0)
    return torch.randn(num, dim), torch.randn(size, dim)


def wrong(z: Tensor, entries: Tensor) -> str:
    """How many choices are not those of brute force in float64, among the first vectors."""
    z, differ = z[:BRUTE_FORCED], 0
    for chunk in z.split(max(1, CHUNK // entries.numel())):
        gaps = (chunk.double().unsqueeze(1) - entries.double()).square().sum(-1)
        differ += int((nearest(chunk, entries) != gaps.argmin(1)).sum())
    return f"{differ} of {len(z)}"


@torch.no_grad()
def compare(num: int, size: int, dim: int) -> None:
    z, entries = inputs(num, size, dim)
    measured = {"product, chunks": product_in_chunks(z, entries)}
    measured["product, whole"] = product_whole(z, entries)
    everything = tasks(z, entries)
    if num * size * 4 > LARGEST:
        everything = {name: everything[name] for name in MODEST}
    times = cpu_ms(measured | everything, ROUNDS, warm_up=1)
    ms = {name: statistics.median(values) for name, values in times.items()}
    alone = min(ms["product, chunks"], ms["product, whole"])
    print(f"\nN {num:,}, K {size:,}, D {dim}")
    for name, value in ms.items():
        print(f"  {name:<16} {value:9.1f} ms  {value / alone:6.2f} x product alone")
    for name, targets in (("vqkit", COMPILED_TARGETS), ("vqkit, torch", TARGETS)):
        beside = f"{ms['faiss'] / ms[name]:.2f} times as fast as faiss"
        if "peer" in ms:
            beside += f", {ms['peer'] / ms[name]:.1f} times as the peer"
        if target := targets.get((num, size, dim)):
            reached = "yes" if ms[name] <= target * alone else "NO"
            beside += f"; at most {target} x: {reached}"
        print(f"  {name}: {beside}")
    used = "used" if flat.is_possible(z, entries) else "not used"
    gain = ms["vqkit, torch"] / ms["vqkit, faiss"]
    print(f"  vqkit, faiss: {gain:.2f} times as fast as vqkit, torch; {used} where that would be")
    print(f"  choices that differ from float64: {wrong(z, entries)}")


@torch.no_grad()
def memory(name: str, *size: int) -> None:
    z, entries = inputs(*size)
    small = tasks(z[:64], entries)
    small[name]()  # what is loaded on first use is not counted
    print(f"{extra_mb(tasks(z, entries)[name]):.0f}")


def main() -> None:
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    if len(sys.argv) > 1:
        memory(sys.argv[1], *map(int, sys.argv[2:]))
        return
    if compiled.library() is None:
        sys.exit("the compiled search was not built; install vqkit where a compiler is")
    print(heading("Exact nearest entry: time beside the matrix product alone, and memory"))
    print(f"Process CPU time, median of {ROUNDS} in turns. 'product': z @ entries.T into memory")
    print(
        "that is there; 'vqkit, torch': without the compiled search; 'vqkit, faiss': the same with"
    )
    print("Faiss, checked; 'faiss': its answer unchecked; 'expanded': |z|^2 + |e|^2 - 2 ze;")
    print("'peer': vector-quantize-pytorch in eval.")
    for size in SIZES:
        compare(*size)
    for num, size, dim in MEMORY_SIZES:
        print(f"\nGrowth of the peak memory in one call, MB, N {num:,}, K {size:,}, D {dim}")
        for name in ("vqkit", "vqkit, torch", "vqkit, faiss", "faiss", "cdist", "expanded", "peer"):
            print(f"  {name:<12} {in_own_process(name, num, size, dim):>6}")


if __name__ == "__main__":
    main()
