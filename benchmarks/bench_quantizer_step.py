"""How much faster is a training step of the EMA quantizer than that of vector-quantize-pytorch?

Run: python benchmarks/bench_quantizer_step.py
"""

import statistics
import sys
from functools import partial
from itertools import cycle

import torch
from measuring import Task, cpu_ms_apart, extra_mb, heading, in_own_process
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from vqkit.quantizers import EMAVectorQuantizer
from vqkit.quantizers.search import compiled, flat

DIM, DECAY, ITEMS, BATCHES = 64, 0.99, 16, 8
# N, K, steps in a turn, launches: short steps depend on how the heap of a process happens to lie
SIZES = ((2_048, 512, 10, 9), (16_384, 1_024, 3, 3), (16_384, 8_192, 1, 1))
ROUNDS = 9
TARGETS = {(2_048, 512): 6.0, (16_384, 1_024): 10.0, (16_384, 8_192): 22.0}
# Defaults; alike without revival, and with it; defaults where nothing was compiled.
PAIRS = (
    ("peer", "vqkit"),
    ("peer", "vqkit, revive=False"),
    ("peer, revival", "vqkit"),
    ("peer", "vqkit, torch search"),
)
MEMORY_LAUNCHES = 5  # how the heap happens to lie moves the peak by several MB


def batches(num: int) -> list[Tensor]:
    """Encoder outputs (16, N / 16, D), other ones at each step."""
    torch.manual_seed(0)
    shape = (ITEMS, num // ITEMS, DIM)
    return [torch.randn(shape, requires_grad=True) for _ in range(BATCHES)]


def ours(num: int, size: int, *, revive: bool = True, by_torch: bool = False) -> Task:
    """Forward, straight-through backward and update, at the defaults."""
    if by_torch:  # in this process, as if nothing else were installed
        compiled.library = flat.library = lambda: None
    layer = EMAVectorQuantizer(DIM, size, decay=DECAY, revive=revive)
    source, upstream = cycle(batches(num)), torch.randn(ITEMS, num // ITEMS, DIM)

    def step() -> None:
        z_e = next(source)
        z_e.grad = None
        out = layer(z_e)
        ((out.z_q * upstream).sum() + out.loss).backward()

    return step


def theirs(num: int, size: int, *, dead_below: int = 0) -> Task:
    """The same of the peer, at its defaults but for sizes, decay and, above 0, revival."""
    options = {"decay": DECAY, "threshold_ema_dead_code": dead_below}
    layer = VectorQuantize(dim=DIM, codebook_size=size, **options)
    source, upstream = cycle(batches(num)), torch.randn(ITEMS, num // ITEMS, DIM)

    def step() -> None:
        z_e = next(source)
        z_e.grad = None
        z_q, _, loss = layer(z_e)
        ((z_q * upstream).sum() + loss.sum()).backward()

    return step


def product(num: int, size: int) -> Task:
    z, entries = torch.randn(num, DIM), torch.randn(size, DIM)
    out = torch.empty(num, size)
    return lambda: torch.mm(z, entries.T, out=out)


def compare(num: int, size: int, steps: int, launches: int) -> None:
    makers = {
        "vqkit": partial(ours, num, size),
        "vqkit, revive=False": partial(ours, num, size, revive=False),
        "vqkit, torch search": partial(ours, num, size, by_torch=True),
        "peer": partial(theirs, num, size),
        "peer, revival": partial(theirs, num, size, dead_below=2),
        "product alone": partial(product, num, size),
    }
    found = [cpu_ms_apart(makers, ROUNDS, steps) for _ in range(launches)]
    print(
        f"\nN {num:,}, K {size:,}, D {DIM}: {launches} launches of {ROUNDS} turns of {steps} steps"
    )
    middles = {name: [statistics.median(one[name]) for one in found] for name in makers}
    for name, ms in middles.items():
        print(f"  {name:<20} {statistics.median(ms):9.2f} ms  ({min(ms):.2f} to {max(ms):.2f})")
    for peer, name in PAIRS:
        ratios = [a / b for a, b in zip(middles[peer], middles[name], strict=True)]
        middle, target = statistics.median(ratios), TARGETS[num, size]
        print(
            f"  {peer} / {name}: median {middle:.1f} ({min(ratios):.1f} to {max(ratios):.1f}), "
            f"target {target:g}: {'yes' if middle >= target else 'NO'}"
        )


def memory(name: str, num: int, size: int) -> None:
    make = {"vqkit": ours, "peer": theirs}[name]
    make(64, size)()
    step = make(num, size)
    print(f"{extra_mb(step):.0f}")


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) > 1:
        memory(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
        return
    print(heading("Training step of the EMA quantizer: forward, backward, update of the codebook"))
    print("Process CPU time of a step; each task in a process of its own, in turns; median of the")
    print("turns, then median (least to most) of the launches.")
    print(f"Input: {BATCHES} batches of N(0, 1) in turn, so that revival has work in every step.")
    print("'peer': vector-quantize-pytorch at its defaults but codebook_size, dim and decay 0.99;")
    print(
        "'vqkit': EMAVectorQuantizer at its defaults, so with revival, which the peer leaves off;"
    )
    print("'vqkit, torch search': the same where the compiled search was not built;")
    print("'peer, revival': with threshold_ema_dead_code=2.")
    for size in SIZES:
        compare(*size)
    num, size, *_ = SIZES[-1]
    print("\nGrowth of the peak memory in the first step, which starts the codebook, MB,")
    print(
        f"N {num:,}, K {size:,}, D {DIM}; median (least to most) of {MEMORY_LAUNCHES}; at most 30"
    )
    for name in ("vqkit", "peer"):
        grown = [int(in_own_process(name, num, size)) for _ in range(MEMORY_LAUNCHES)]
        middle = statistics.median(grown)
        print(f"  {name:<10} {middle:>6}  ({min(grown)} to {max(grown)})", flush=True)


if __name__ == "__main__":
    main()
