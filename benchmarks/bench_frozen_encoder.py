"""How good is the codebook alone? Clusters, a frozen encoder, and the error of their centres.

Run: python benchmarks/bench_frozen_encoder.py [seeds]
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import torch
from measuring import heading
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from vqkit.quantizers import (
    Annealing,
    Balanced,
    EMAVectorQuantizer,
    GumbelQuantizer,
    IndexBackpropQuantizer,
    Quantizer,
    Sampled,
    SimVQuantizer,
    StochasticQuantizer,
    VectorQuantizer,
)

CLUSTERS, DIM, SPREAD, NOISE = 256, 16, 2.0, 0.2
BATCH, STEPS, RESERVOIR, RATE = 2_048, 600, 8, 1e-2
EVALUATION = 65_536
SEEDS, SEEDS_OF_PEERS = 10, 3
TARGET = 0.045

Quantize = Callable[[Tensor], tuple[Tensor, Tensor]]
ANNEALING = Annealing(steps=STEPS)


@dataclass(frozen=True)
class Source:
    """Fresh vectors of clusters whose centres stay, or move along straight lines.

    Attributes:
        centers: Where they are at first. (CLUSTERS, DIM)
        way: How far they go. (CLUSTERS, DIM)
        generator: What the draws come from.
    """

    centers: Tensor
    way: Tensor
    generator: torch.Generator

    def draw(self, num: int, time: float = 0.0) -> Tensor:
        """Vectors when the centres have gone that share of their way. (num, DIM)"""
        which = torch.randint(CLUSTERS, (num,), generator=self.generator)
        noise = NOISE * torch.randn(num, DIM, generator=self.generator)
        return (self.centers + time * self.way)[which] + noise


Train = Callable[[Source], Quantize]


def source(seed: int, length: float = 0.0) -> Source:
    """Clusters that the seed fixes, whose centres go so far in directions of their own."""
    generator = torch.Generator().manual_seed(seed)
    centers = SPREAD * torch.randn(CLUSTERS, DIM, generator=generator)
    way = torch.zeros_like(centers)
    if length:
        directions = torch.randn(CLUSTERS, DIM, generator=generator)
        way = length * nn.functional.normalize(directions)
    return Source(centers, way, generator)


def ours(make: Callable[[], Quantizer], *, engine: bool = False) -> Train:
    """A layer used alone, or one that the training engine starts from several batches.

    The decoder is the identity: its gradient is that of the squared error.
    """

    def train(vectors: Source) -> Quantize:
        layer = make()
        if engine:
            layer.initialize(vectors.draw(RESERVOIR * BATCH), seed=torch.initial_seed())
        parameters = [p for p in layer.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, RATE) if parameters else None
        for step in range(STEPS):
            z = vectors.draw(BATCH, step / STEPS)
            out = layer(z)
            if optimizer is not None:
                optimizer.zero_grad()
                ((out.z_q - z).square().mean() + out.loss).backward()
                optimizer.step()
        layer.eval()
        return lambda z: (layer(z).z_q, layer(z).indices)

    return train


def theirs(**options: float | bool) -> Train:
    def train(vectors: Source) -> Quantize:
        layer: nn.Module = VectorQuantize(dim=DIM, codebook_size=CLUSTERS, **options)
        for step in range(STEPS):
            layer(vectors.draw(BATCH, step / STEPS).unsqueeze(0))
        layer.eval()
        return lambda z: layer(z.unsqueeze(0))[:2]

    return train


PEERS: dict[str, Train] = {
    "peer, defaults": theirs(),
    "peer, decay 0.99": theirs(decay=0.99),
    "peer, k-means": theirs(kmeans_init=True),
    "peer, k-means + expiry": theirs(kmeans_init=True, threshold_ema_dead_code=2),
    "peer, 0.99 + k-means": theirs(decay=0.99, kmeans_init=True),
    "peer, 0.99 + k-means + expiry": theirs(
        decay=0.99, kmeans_init=True, threshold_ema_dead_code=2
    ),
}
OURS: dict[str, Train] = {
    "vqkit EMA": ours(lambda: EMAVectorQuantizer(DIM, CLUSTERS)),
    "vqkit EMA, engine's start": ours(lambda: EMAVectorQuantizer(DIM, CLUSTERS), engine=True),
    "vqkit EMA, sampled": ours(lambda: EMAVectorQuantizer(DIM, CLUSTERS, assignment=Sampled())),
    "vqkit EMA, balanced": ours(lambda: EMAVectorQuantizer(DIM, CLUSTERS, assignment=Balanced())),
    "vqkit gradient": ours(lambda: VectorQuantizer(DIM, CLUSTERS)),
    "vqkit gradient, engine's start": ours(lambda: VectorQuantizer(DIM, CLUSTERS), engine=True),
    "vqkit gradient, rotation": ours(lambda: VectorQuantizer(DIM, CLUSTERS, gradient="rotation")),
    "vqkit gradient, directional": ours(
        lambda: VectorQuantizer(DIM, CLUSTERS, gradient="directional")
    ),
    "vqkit SimVQ": ours(lambda: SimVQuantizer(DIM, CLUSTERS)),
    "vqkit IBQ": ours(lambda: IndexBackpropQuantizer(DIM, CLUSTERS)),
    "vqkit Gumbel": ours(lambda: GumbelQuantizer(DIM, CLUSTERS, annealing=ANNEALING)),
    "vqkit SQ": ours(lambda: StochasticQuantizer(DIM, CLUSTERS, annealing=ANNEALING)),
}


def measure(train: Train, seed: int, length: float = 0.0) -> tuple[int, float]:
    """Entries used and mean squared error of vectors never seen, where the centres are at last."""
    torch.manual_seed(seed)
    vectors = source(seed, length)
    quantize = train(vectors)
    with torch.no_grad():
        z = vectors.draw(EVALUATION, 1.0)
        z_q, indices = quantize(z)
        return indices.unique().numel(), (z - z_q.view_as(z)).square().mean().item()


def table(rows: dict[str, Train], seeds: range, *, length: float = 0.0, target: float) -> None:
    """One line for each row, as soon as it is known."""
    print(f"{'':<32} {'used, worst':>11} {'MSE, best':>10} {'median':>8} {'worst':>8}")
    for name, train in rows.items():
        some = seeds[:SEEDS_OF_PEERS] if name in PEERS else seeds
        used, errors = zip(*(measure(train, seed, length) for seed in some), strict=True)
        ordered = sorted(errors)
        middle, worst = ordered[len(ordered) // 2], ordered[-1]
        line = f"{name:<32} {min(used):>11} {ordered[0]:>10.4f} {middle:>8.4f} {worst:>8.4f}"
        if name.startswith("vqkit"):
            all_used = "all used" if min(used) == CLUSTERS else "NOT all used"
            line += f"  {all_used}, {'at most' if worst <= target else 'MORE than'} {target}"
        print(line, flush=True)


def explain(num_seeds: int) -> None:
    print(
        f"{CLUSTERS} clusters, centres N(0, {SPREAD:g}^2), noise {NOISE:g}, D {DIM}, K {CLUSTERS};"
    )
    print(f"{BATCH:,} fresh vectors a step, {STEPS} steps; error on {EVALUATION:,} fresh vectors,")
    print(f"mean over coordinates (the true centres leave {NOISE**2:.3f}); {num_seeds} seeds,")
    print(f"the first {SEEDS_OF_PEERS} for peers (vector-quantize-pytorch).")
    print(f"Adam at rate {RATE:g} for what has gradients, the decoder is the identity; all options")
    print(f"at their defaults, but Gumbel and SQ anneal over the {STEPS} steps.")
    print(f"'engine': started from {RESERVOIR} batches, else from the first one.")


def main() -> None:
    torch.set_num_threads(1)
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    print(heading("Frozen encoder: the mathematics of the codebook alone"))
    explain(len(seeds))
    print()
    table(OURS | PEERS, seeds, target=TARGET)


if __name__ == "__main__":
    main()
