"""How much faster does the sampler of the gated PixelCNN draw than a full forward at each position?

Run: python benchmarks/bench_pixelcnn_sampling.py

On a grid that is large, the full forward is timed at a few positions, spread over the image, and
multiplied: it computes the whole image at each, whatever the position.
"""

import argparse
import statistics

import torch
from measuring import cpu_ms, heading
from torch import Tensor, nn

from vqkit.nn.pixelcnn import GatedPixelCNN
from vqkit.priors.sampling import choose
from vqkit.random import uniform

LAYERS, WIDTH, BATCH, VOCABULARY, ROUNDS = 12, 128, 16, 512, 7
SMALL = 64  # up to so many positions, a full forward is timed at each


class Drawing:
    """Integers drawn one position after another; what is timed is each way to the features."""

    def __init__(self, side: int, options: argparse.Namespace) -> None:
        torch.manual_seed(0)
        every = 4 if options.attention else None
        self.network = GatedPixelCNN(WIDTH, WIDTH, num_layers=LAYERS, attention_every=every).eval()
        self.table, self.head = nn.Embedding(VOCABULARY, WIDTH), nn.Linear(WIDTH, VOCABULARY)
        self.side, self.length = side, side * side
        positions = torch.arange(self.length)
        self.u = uniform(0, torch.arange(BATCH).unsqueeze(-1), positions)

    def choose(self, features: Tensor, position: int) -> Tensor:
        """The integers at a position. (B,)"""
        return choose(5 * self.head(features), self.u[:, position])

    @torch.no_grad()
    def cached(self) -> Tensor:
        """All integers. (B, L)"""
        sampler = self.network.sampler(BATCH, self.side, self.side)
        drawn, previous = [], None
        for position in range(self.length):
            drawn.append(self.choose(sampler.step(previous), position))
            previous = self.table(drawn[-1])
        return torch.stack(drawn, dim=1)

    @torch.no_grad()
    def full(self, positions: range, drawn: Tensor) -> Tensor:
        """The integers at some positions, after those drawn (B, L) before them. (B, positions)"""
        drawn = drawn.clone()
        for position in positions:
            x = self.table(drawn).mT.unflatten(2, (self.side, self.side))
            features = self.network(x).flatten(2)[:, :, position]
            drawn[:, position] = self.choose(features, position)
        return drawn[:, list(positions)]


def measure(side: int, options: argparse.Namespace) -> None:
    """Times both ways on a grid of side x side, and prints what came out."""
    drawing = Drawing(side, options)
    cached, nothing = drawing.cached(), torch.zeros(BATCH, side * side, dtype=torch.int64)
    few = drawing.length > SMALL
    positions = range(0, drawing.length, drawing.length // options.positions if few else 1)
    # Where all positions are drawn, each draw follows from those before it alone.
    before = cached if few else nothing
    differ = int((drawing.full(positions, before) != cached[:, list(positions)]).sum())
    tasks = {"cached": drawing.cached, "full": lambda: drawing.full(positions, before)}
    times = {k: statistics.median(v) for k, v in cpu_ms(tasks, ROUNDS, warm_up=1).items()}
    full = times["full"] * drawing.length / len(positions)
    print(f"{BATCH} items of {side} x {side} integers, {len(positions)} positions of full forwards")
    print(f"    cached {times['cached']:9.0f} ms, full {full:9.0f} ms")
    print(f"    {full / times['cached']:.1f} x  (integers that differ: {differ})")
    print(f"    {BATCH * drawing.length / times['cached'] * 1e3:.0f} integers per second")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sides", type=int, nargs="+", default=[8, 32])
    parser.add_argument("--attention", action="store_true", help="attention after 4 layers each")
    parser.add_argument("--positions", type=int, default=8, help="full forwards on large grids")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(heading("The sampler of the gated PixelCNN, beside a full forward at each position"))
    print(f"{LAYERS} layers x {WIDTH}, K {VOCABULARY}; process CPU time, median of {ROUNDS}")
    for side in options.sides:
        measure(side, options)


if __name__ == "__main__":
    main()
