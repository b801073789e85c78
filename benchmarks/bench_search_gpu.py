"""How near is the exact search on a GPU to the matrix product inside it, and is it exact there?

Run: python benchmarks/bench_search_gpu.py [check] [time] [tiles] [--full]

check: the choice is that of float64, bit for bit, and no training step waits for the device.
time: beside torch.compile, vector-quantize-pytorch and the product alone.
tiles: the search with other sizes of its tiles. Without a word: check, then time.
"""

import argparse
import itertools
import statistics
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from measuring import Task, heading, version
from torch import Tensor

from vqkit.quantizers import (
    EMAConfig,
    FSQConfig,
    GumbelConfig,
    Quantizer,
    QuantizerConfig,
    VQConfig,
)
from vqkit.quantizers.search import fused, nearest, products
from vqkit.quantizers.search.fused import Device, Tiles

NUM = 2**20
SIZES = [
    (8_192, 1_024, 64),  # a batch in training
    *((NUM, size, dim) for dim in (8, 32, 256) for size in (1_024, 16_384, 262_144)),
]
WORK = 2**42  # multiplications in a call; --full lifts it
SCORES = 2**28  # that a peer may hold at once: 1 GB
ROUNDS = 7
SAMPLE = 4_096
# Dense TFLOP/s by the vendor's data sheets: float32, TF32 on tensor cores.
PEAKS = {"H200": (67, 494), "H100": (67, 494), "A100": (19.5, 156)}
CHECKED = [
    *itertools.product((1, 127, 5_000), (2, 63, 1_000), (1, 3, 16, 17, 32, 64)),
    *itertools.product((300, 20_000), (129, 4_099), (8, 65, 200, 256, 1_000)),
    (3, 300_000, 8),
    (70_000, 257, 64),
]


def brute_force(z: Tensor, entries: Tensor) -> Tensor:
    """The lowest index of the least distance in float64, coordinates summed in order. (N,)"""
    found = []
    for rows in z.double().split(max(1, SCORES // 4 // len(entries))):
        gaps = rows.new_zeros(len(rows), len(entries))
        for x, y in zip(rows.T, entries.double().T, strict=True):
            gaps += (x.unsqueeze(1) - y).square_()
        found.append(gaps.argmin(1))
    return torch.cat(found)


def inputs(num: int, size: int, dim: int, device: str) -> dict[str, tuple[Tensor, Tensor]]:
    """Vectors and entries of several kinds, by name."""
    z, entries = torch.randn(num, dim, device=device), torch.randn(size, dim, device=device)
    whole = torch.randint(-2, 3, (size, dim), device=device).float()
    apart = 1e-6 * torch.randn_like(entries)
    bad = z.clone()
    bad[:: max(2, num // 5)] = torch.nan
    near = entries.repeat(-(-num // size), 1)[:num]
    return {
        "normal": (z, entries),
        "far from the origin": (z + 1000, entries + 1000),
        "one sign": (z.abs(), entries.abs()),
        "ties": (torch.randint(-2, 3, (num, dim), device=device).float(), whole),
        "close calls": (
            near + 1e-6 * torch.randn_like(near),
            entries[: size // 2 + 1].repeat(2, 1),
        ),
        "one point": (z, entries[:1] + apart),
        "no numbers": (bad, entries),
        "in half precision": (z.bfloat16().float(), entries.bfloat16().float()),
    }


def differing(z: Tensor, entries: Tensor) -> int:
    """How many choices are not those of float64; 0 is that of what is no number."""
    expected = brute_force(z, entries).where(z.isfinite().all(1), 0)
    first, again = fused.search(z, entries), fused.search(z, entries)
    return int((first != expected).sum() + (first != again).sum())


def check(shapes: list[tuple[int, int, int]], device: str) -> None:
    print("\nChoices that differ from float64, or from those of a second call")
    total = 0
    for shape in shapes:
        for kind, (z, entries) in inputs(*shape, device).items():
            if wrong := differing(z, entries):
                print(f"  N {shape[0]:,}, K {shape[1]:,}, D {shape[2]}, {kind}: {wrong:,}")
            total += wrong
    print(f"  {total:,} in all, {len(shapes)} shapes of {len(inputs(1, 2, 1, device))} kinds")


def trained(config: QuantizerConfig, z: Tensor) -> Callable[[], object]:
    """A step of training of a layer whose codebook has started."""
    layer: Quantizer = config.build(z.shape[-1]).to(z.device).train()
    layer.initialize(z, seed=0)

    def step() -> None:
        x = z.clone().requires_grad_()
        out = layer(x)
        (out.loss + out.z_q.square().mean()).backward()

    return step


@contextmanager
def refusing_to_wait() -> Iterator[None]:
    """Whatever waits for the device is an error inside."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


def check_waiting(device: str) -> None:
    print("\nDoes a step of training wait for the device?")
    size = 512
    configs = {
        "EMA": (EMAConfig(codebook_size=size), 32),
        "VQ": (VQConfig(codebook_size=size), 32),
        "Gumbel-softmax": (GumbelConfig(codebook_size=size), 32),
        "FSQ": (FSQConfig(levels=(8, 5, 5, 5)), 4),
    }
    for name, (config, dim) in configs.items():
        step = trained(config, torch.randn(8, 256, dim, device=device))
        for _ in range(3):
            step()
        try:
            with refusing_to_wait():
                step()
            print(f"  {name:<16} no")
        except RuntimeError as error:
            print(f"  {name:<16} YES: {str(error).splitlines()[0]}")


def chunked(task: Callable[[Tensor], object], z: Tensor, size: int) -> Task:
    """A task for as many vectors at a time as have scores that fit."""
    chunks = z.split(max(1, SCORES // size))

    def run() -> None:
        for chunk in chunks:
            task(chunk)

    return run


def product(z: Tensor, entries: Tensor, precision: str) -> Task:
    """The scores alone, in chunks, all in the same memory."""
    out = z.new_empty(max(1, SCORES // len(entries)), len(entries))
    matmul = torch.backends.cuda.matmul

    def one(chunk: Tensor) -> None:
        matmul.fp32_precision = precision
        torch.mm(chunk, entries.T, out=out[: len(chunk)])
        matmul.fp32_precision = "ieee"

    return chunked(one, z, len(entries))


def tasks(z: Tensor, entries: Tensor) -> dict[str, Task]:
    """What is measured, by name."""
    size, dim = entries.shape
    both = torch.compile(lambda x: torch.cdist(x, entries).argmin(1), dynamic=False)
    found = {
        "vqkit": lambda: nearest(z, entries),
        "vqkit without triton": lambda: products.search(z, entries),
        "compiled cdist": chunked(both, z, size),
        "product, float32": product(z, entries, "ieee"),
        "product, TF32": product(z, entries, "tf32"),
    }
    try:
        from vector_quantize_pytorch import VectorQuantize
    except ImportError:
        return found
    peer = VectorQuantize(dim=dim, codebook_size=size).to(z.device).eval()
    return found | {"peer": chunked(lambda x: peer(x.unsqueeze(0)), z, size)}


def gpu_ms(work: dict[str, Task], rounds: int, warm_up: int = 2) -> dict[str, float]:
    """Time of each on the device, by its own events, in turns: the median."""
    times: dict[str, list[float]] = {name: [] for name in work}
    for _ in range(warm_up + rounds):
        for name, task in work.items():
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            start.record()
            task()
            end.record()
            end.synchronize()
            times[name].append(start.elapsed_time(end))
    return {name: statistics.median(values[warm_up:]) for name, values in times.items()}


def extra_mb(task: Task) -> float:
    """By how much the memory on the device grows while a task runs."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    task()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def rescored(z: Tensor, entries: Tensor) -> float:
    """The share of vectors whose choice the scores leave in doubt."""
    device = Device.of(z.device)
    tiles = Tiles.of(z.shape[1], device.shared)
    table, indices = fused.Table.of(entries, tiles), z.new_empty(len(z), dtype=torch.int64)
    doubts = fused.settle(z, table, fused.best(z, table, tiles, device), indices)
    return doubts.count.item() / len(z)


@torch.no_grad()
def compare(num: int, size: int, dim: int, full: bool) -> None:
    num = num if full else min(num, WORK // (size * dim))
    z, entries = torch.randn(num, dim, device="cuda"), torch.randn(size, dim, device="cuda")
    work = tasks(z, entries)
    ms = gpu_ms(work, ROUNDS)
    memory = {name: extra_mb(task) for name, task in work.items()}
    peak = next((v for name, v in PEAKS.items() if name in torch.cuda.get_device_name()), None)
    print(f"\nN {num:,}, K {size:,}, D {dim}")
    for name, value in ms.items():
        rate = 2e-9 * num * size * dim / value
        print(f"  {name:<22}{value:10.3f} ms {rate:8.1f} TFLOP/s {memory[name]:9.1f} MB", end="")
        print(f"  {value / ms['vqkit']:7.2f} x vqkit")
    if peak:
        rate = 2e-9 * num * size * dim / ms["vqkit"]
        print(
            f"  vqkit: {rate / peak[0]:.0%} of the float32 peak, {3 * rate / peak[1]:.0%} of that"
        )
        print("    of TF32, of which it takes three products for one")
    some = z[:SAMPLE]
    wrong = int((nearest(some, entries) != brute_force(some, entries)).sum())
    print(f"  rescored: {rescored(z, entries):.4%}; differ from float64: {wrong} of {len(some)}")


@torch.no_grad()
def compare_tiles(num: int, size: int, dim: int) -> None:
    num = min(num, WORK // (size * dim))
    z, entries = torch.randn(num, dim, device="cuda"), torch.randn(size, dim, device="cuda")
    chosen = Tiles.of(dim, Device.of(z.device).shared)
    depths = {16} if dim <= 16 else {32} if dim <= 32 else {32, 64}
    shapes = itertools.product((64, 128), (32, 64, 128), sorted(depths), (4, 8), (2, 3, 4))
    work: dict[str, Task] = {}
    for shape, lanes in itertools.product(shapes, (False, True)):
        tiles = Tiles(*shape, lanes)
        try:
            fused.search(z[:1_000], entries, tiles)
        except Exception as error:  # more memory or registers than there are
            print(f"  {tiles}: {type(error).__name__}")
            continue
        work[str(tiles)] = lambda tiles=tiles: fused.search(z, entries, tiles)
    ms = gpu_ms(work, 3, warm_up=1)
    print(f"\nN {num:,}, K {size:,}, D {dim}; chosen: {ms.get(str(chosen), float('nan')):.3f} ms")
    for name in sorted(ms, key=ms.__getitem__)[:8]:
        print(f"  {ms[name]:10.3f} ms  {name}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", nargs="*", choices=["check", "time", "tiles", []], default=[])
    parser.add_argument("--full", action="store_true", help="all vectors, however long it takes")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("this benchmark needs a GPU of NVIDIA; there is none")
        return
    torch.manual_seed(0)
    print(heading("Exact nearest entry on a GPU: choices, time, memory"))
    print(f"triton {version('triton')}; device time by events, median of {ROUNDS} in turns;")
    print(
        "'peer': vector-quantize-pytorch in eval; peers and products in chunks of 1 GB of scores."
    )
    what = options.what or ["check", "time"]
    small = torch.zeros(1, 1, device="cuda")
    if not fused.is_possible(small, small):
        print("the fused search needs Triton, a C compiler and tensor cores; one is missing here")
        return
    if "check" in what:
        check(CHECKED, "cuda")
        check_waiting("cuda")
    for size in SIZES if "time" in what else []:
        compare(*size, options.full)
    for size in SIZES if "tiles" in what else []:
        compare_tiles(*size)


if __name__ == "__main__":
    main()
