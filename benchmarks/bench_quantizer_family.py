"""Is every quantizer faster than that of vector-quantize-pytorch, in training and in encoding?

Run: python benchmarks/bench_quantizer_family.py [ROW ...]
"""

import argparse
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import cycle

import torch
import vector_quantize_pytorch as peers
from measuring import Task, cpu_ms_apart, extra_mb, heading, in_own_process
from torch import Tensor, nn

from vqkit.quantizers import (
    BinarySphericalQuantizer,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    LatentQuantizer,
    LookupFreeQuantizer,
    Quantizer,
    RandomProjectionQuantizer,
    Residual,
    SimVQuantizer,
)

DECAY, ITEMS, BATCHES, ROUNDS, LAUNCHES = 0.99, 16, 8, 7, 3
SEEN = 20  # batches in training before encoding: one alone leaves entries that are equal
LEVELS = (8, 5, 5, 5)


class ChannelsFirst(nn.Module):
    """A layer that wants the coordinates before the positions."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, z_e: Tensor) -> tuple[Tensor, ...]:
        z_q, indices, *losses = self.layer(z_e.movedim(-1, 1))
        return z_q.movedim(1, -1), indices, *losses


@dataclass(frozen=True)
class Row:
    """Two layers that do the same, and what they are given.

    Attributes:
        num: Number of vectors N.
        dim: Length D of each.
        ours: Makes ours.
        theirs: Makes the peer's.
        target: How many times as fast ours is to be in training.
        turn: Steps in a turn.
        trains: Whether there is anything to train; else only encoding is measured.
    """

    num: int
    dim: int
    ours: Callable[[], Quantizer]
    theirs: Callable[[], nn.Module]
    target: float = 1.0
    turn: int = 4
    trains: bool = True


def residual(num_stages: int, *, revive: bool = True, turn: int = 1) -> Row:
    num, size, dim = 2_048, 1_024, 64
    options = {"decay": DECAY, "revive": revive}
    return Row(
        num,
        dim,
        lambda: Residual([EMAVectorQuantizer(dim, size, **options) for _ in range(num_stages)]),
        lambda: peers.ResidualVQ(
            dim=dim, num_quantizers=num_stages, codebook_size=size, decay=DECAY
        ),
        target=4.0,
        turn=turn,
    )


ROWS = {
    "residual EMA, 8 stages": residual(8, turn=2),
    "residual EMA, 8 stages, revive=False": residual(8, revive=False, turn=2),
    "residual EMA, 32 stages": residual(32),
    "residual EMA, 32 stages, revive=False": residual(32, revive=False),
    "FSQ 8 5 5 5": Row(
        16_384, 4, lambda: FiniteScalarQuantizer(LEVELS), lambda: peers.FSQ(list(LEVELS)), turn=10
    ),
    "LFQ, 10 bits": Row(
        16_384, 10, lambda: LookupFreeQuantizer(10), lambda: peers.LFQ(codebook_size=2**10, dim=10)
    ),
    "LFQ, 14 bits": Row(
        4_096, 14, lambda: LookupFreeQuantizer(14), lambda: peers.LFQ(codebook_size=2**14, dim=14)
    ),
    "BSQ, 10 bits": Row(
        16_384,
        10,
        lambda: BinarySphericalQuantizer(10),
        lambda: peers.LFQ(codebook_size=2**10, dim=10, spherical=True),
    ),
    "SimVQ, K 1,024": Row(
        16_384, 64, lambda: SimVQuantizer(64, 1_024), lambda: peers.SimVQ(64, 1_024), turn=2
    ),
    "latent 8 5 5 5": Row(
        16_384,
        4,
        lambda: LatentQuantizer(LEVELS),
        lambda: ChannelsFirst(peers.LatentQuantize(list(LEVELS), dim=4)),
        turn=10,
    ),
    "random projection, K 1,024": Row(
        16_384,
        64,
        lambda: RandomProjectionQuantizer(64, 1_024),
        lambda: peers.RandomProjectionQuantizer(
            dim=64, codebook_size=1_024, codebook_dim=16, norm=False
        ),
        turn=2,
        trains=False,
    ),
}


def layer_of(name: str, who: str) -> nn.Module:
    torch.manual_seed(0)
    return (ROWS[name].ours if who == "vqkit" else ROWS[name].theirs)()


def batches(name: str) -> list[Tensor]:
    """Encoder outputs (16, N / 16, D), other ones at each step."""
    row = ROWS[name]
    torch.manual_seed(1)
    shape = (ITEMS, row.num // ITEMS, row.dim)
    return [torch.randn(shape, requires_grad=True) for _ in range(BATCHES)]


def training_step(name: str, who: str) -> Task:
    """Forward, backward into vectors and parameters, update of codebooks that averages move."""
    layer, inputs = layer_of(name, who), batches(name)
    source, upstream = cycle(inputs), torch.randn_like(inputs[0])
    parameters = list(layer.parameters())

    def step() -> None:
        z_e = next(source)
        for tensor in (z_e, *parameters):
            tensor.grad = None
        if who == "vqkit":
            out = layer(z_e)
            z_q, loss = out.z_q, out.loss
        else:
            z_q, _, *losses = layer(z_e)
            loss = losses[0].sum() if losses else torch.zeros(())
        ((z_q * upstream).sum() + loss).backward()

    return step


@torch.no_grad()
def encoding(name: str, who: str) -> Task:
    """Indices in evaluation, of a layer that has seen some batches."""
    layer, inputs = layer_of(name, who), [z.detach() for z in batches(name)]
    source = cycle(inputs)
    if ROWS[name].trains:
        for _ in range(SEEN):
            layer(next(source))
    layer.eval()

    @torch.no_grad()
    def step() -> None:
        layer.encode(next(source)) if who == "vqkit" else layer(next(source))

    return step


def compare(name: str, make: Callable[[str, str], Task], what: str, target: float) -> None:
    makers = {who: partial(make, name, who) for who in ("vqkit", "peer")}
    launches = [cpu_ms_apart(makers, ROUNDS, ROWS[name].turn) for _ in range(LAUNCHES)]
    middles = {who: [statistics.median(one[who]) for one in launches] for who in makers}
    ratios = [a / b for a, b in zip(middles["peer"], middles["vqkit"], strict=True)]
    ours, theirs = (statistics.median(values) for values in middles.values())
    ratio = statistics.median(ratios)
    print(
        f"  {what:<10} vqkit {ours:9.3f} ms, peer {theirs:9.3f} ms, peer / vqkit {ratio:6.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})  target {target:g}: "
        f"{'yes' if ratio >= target else 'NO'}",
        flush=True,
    )


def memory(name: str, who: str) -> None:
    """Growth of the peak in the second step, when gradients and statistics have their places."""
    make = training_step if ROWS[name].trains else encoding
    print(f"{extra_mb(make(name, who)):.0f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("rows", nargs="*", help="all when left out")
    parser.add_argument("--memory", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.memory:
        memory(*options.memory)
        return
    print(heading("Quantizers in training and in encoding, beside vector-quantize-pytorch's"))
    print("Process CPU time; each layer in a process of its own, in turns; median of the turns,")
    print(f"then median (least to most) of {LAUNCHES} launches of {ROUNDS} turns.")
    print("Training: forward, backward, update of averages. Encoding: indices in evaluation, after")
    print(f"{SEEN} steps of training. Input: {BATCHES} batches of N(0, 1) in turn, so that revival")
    print("has work in every step. Both at their defaults but for sizes and decay")
    print(f"{DECAY}: ours with revival, unless the name says no; the peer leaves it off. BSQ: the")
    print(
        "peer's LFQ with spherical. Memory: growth of the peak in one training step (or encoding)."
    )
    for name in options.rows or ROWS:
        row = ROWS[name]
        print(f"\n{name}; N {row.num:,}, D {row.dim}", flush=True)
        if row.trains:
            compare(name, training_step, "training", row.target)
        compare(name, encoding, "encoding", 1.0)
        grown = {who: in_own_process("--memory", name, who) for who in ("vqkit", "peer")}
        print(f"  memory     vqkit {grown['vqkit']:>9} MB, peer {grown['peer']:>9} MB", flush=True)


if __name__ == "__main__":
    main()
