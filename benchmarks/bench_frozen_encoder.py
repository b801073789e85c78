"""How good is the codebook alone? Clusters, a frozen encoder, and the error of their centres.

Run: python benchmarks/bench_frozen_encoder.py [seeds]
"""

import sys
from collections.abc import Callable

import torch
from measuring import heading
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from vqkit.quantizers import EMAVectorQuantizer, Quantizer, VectorQuantizer

CLUSTERS, DIM, SPREAD, NOISE = 256, 16, 2.0, 0.2
BATCH, STEPS, RESERVOIR, RATE = 2_048, 600, 8, 1e-2
EVALUATION = 65_536
SEEDS = 10
TARGET = 0.045

Train = Callable[[int, Callable[[int], Tensor]], Callable[[Tensor], tuple[Tensor, Tensor]]]


def source(seed: int) -> Callable[[int], Tensor]:
    """Fresh vectors of clusters that the seed fixes: ``draw(num)`` gives (num, D)."""
    generator = torch.Generator().manual_seed(seed)
    centers = SPREAD * torch.randn(CLUSTERS, DIM, generator=generator)

    def draw(num: int) -> Tensor:
        which = torch.randint(CLUSTERS, (num,), generator=generator)
        return centers[which] + NOISE * torch.randn(num, DIM, generator=generator)

    return draw


def ours(make: Callable[[], Quantizer], *, engine: bool) -> Train:
    """A layer used alone, or one that the training engine starts from several batches."""

    def train(seed: int, draw: Callable[[int], Tensor]):
        layer = make()
        if engine:
            layer.initialize(draw(RESERVOIR * BATCH), seed=seed)
        parameters = [p for p in layer.parameters() if p.requires_grad]
        optimizer = torch.optim.Adam(parameters, RATE) if parameters else None
        for _ in range(STEPS):
            loss = layer(draw(BATCH)).loss
            if optimizer is not None:
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        layer.eval()
        return lambda z: (layer(z).z_q, layer(z).indices)

    return train


def theirs(**options: float | bool) -> Train:
    def train(seed: int, draw: Callable[[int], Tensor]):
        layer: nn.Module = VectorQuantize(dim=DIM, codebook_size=CLUSTERS, **options)
        for _ in range(STEPS):
            layer(draw(BATCH).unsqueeze(0))
        layer.eval()
        return lambda z: layer(z.unsqueeze(0))[:2]

    return train


ROWS: dict[str, Train] = {
    "vqkit EMA, alone": ours(lambda: EMAVectorQuantizer(DIM, CLUSTERS), engine=False),
    "vqkit EMA, engine's start": ours(lambda: EMAVectorQuantizer(DIM, CLUSTERS), engine=True),
    "vqkit gradient, Adam, alone": ours(lambda: VectorQuantizer(DIM, CLUSTERS), engine=False),
    "vqkit gradient, Adam, engine's": ours(lambda: VectorQuantizer(DIM, CLUSTERS), engine=True),
    "peer, defaults": theirs(),
    "peer, decay 0.99": theirs(decay=0.99),
    "peer, k-means + expiry": theirs(kmeans_init=True, threshold_ema_dead_code=2),
    "peer, 0.99 + k-means + expiry": theirs(
        decay=0.99, kmeans_init=True, threshold_ema_dead_code=2
    ),
}


def measure(train: Train, seed: int) -> tuple[int, float]:
    """Entries used and mean squared error of vectors never seen."""
    torch.manual_seed(seed)
    draw = source(seed)
    quantize = train(seed, draw)
    with torch.no_grad():
        z = draw(EVALUATION)
        z_q, indices = quantize(z)
        return indices.unique().numel(), (z - z_q.view_as(z)).square().mean().item()


def main() -> None:
    torch.set_num_threads(1)
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    print(heading("Frozen encoder: the mathematics of the codebook alone"))
    print(
        f"{CLUSTERS} clusters, centres N(0, {SPREAD:g}^2), noise {NOISE:g}, D {DIM}, K {CLUSTERS};"
    )
    print(f"{BATCH:,} fresh vectors a step, {STEPS} steps; error on {EVALUATION:,} fresh vectors,")
    print(f"mean over coordinates (the true centres leave {NOISE**2:.3f}); {len(seeds)} seeds.")
    print(f"Adam at rate {RATE:g} for the gradients; 'engine': {RESERVOIR} batches at first.\n")
    print(f"{'':<32} {'used, worst':>11} {'MSE, best':>10} {'median':>8} {'worst':>8}")
    for name, train in ROWS.items():
        used, errors = zip(*(measure(train, seed) for seed in seeds), strict=True)
        ordered = sorted(errors)
        middle, worst = ordered[len(ordered) // 2], ordered[-1]
        line = f"{name:<32} {min(used):>11} {ordered[0]:>10.4f} {middle:>8.4f} {worst:>8.4f}"
        if name.startswith("vqkit"):
            good = min(used) == CLUSTERS and worst <= TARGET
            line += f"  all used and at most {TARGET}: {'yes' if good else 'NO'}"
        print(line, flush=True)


if __name__ == "__main__":
    main()
