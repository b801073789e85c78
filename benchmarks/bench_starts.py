"""What do the starts and the rule of revival do to a codebook? Clusters, frozen and drifting.

Run: python benchmarks/bench_starts.py [seeds]
"""

import sys
from collections.abc import Callable
from itertools import product
from unittest import mock

import torch
from measuring import heading
from torch import Tensor

from vqkit.quantizers import EMAVectorQuantizer, codebook, revival
from vqkit.quantizers.revival import Candidates, Replacements

CLUSTERS, DIM, SPREAD, NOISE, WALK = 256, 16, 2.0, 0.2, 4.0
BATCH, STEPS, EVALUATION, SEEDS = 2_048, 600, 65_536, 5


class Source:
    """Vectors of clusters that the seed fixes, whose centres walk so many noise widths in all."""

    def __init__(self, seed: int, walk: float) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.centers = SPREAD * torch.randn(CLUSTERS, DIM, generator=self.generator)
        ways = torch.randn(CLUSTERS, DIM, generator=self.generator)
        self.step = ways / ways.norm(dim=1, keepdim=True) * NOISE * walk / STEPS

    def draw(self, num: int) -> Tensor:
        which = torch.randint(CLUSTERS, (num,), generator=self.generator)
        return self.centers[which] + NOISE * torch.randn(num, DIM, generator=self.generator)


def uniform(
    passes: list[Candidates],
    entries: Tensor,
    average_counts: Tensor,
    unused_for: Tensor,
    words: tuple[int, Tensor],
    dead_after: float,
    num: int,
) -> Replacements:
    """The usual rule: any vector of the batch takes the place of a dead entry, without a look."""
    alike = [Candidates(one.vectors, torch.ones_like(one.errors), one.real) for one in passes]
    drawn = revival.draw(alike, min(num, len(entries)), words)
    rows = unused_for.topk(len(drawn.chances)).indices
    dead = revival.is_dead(unused_for, dead_after)[rows]
    return Replacements(rows, dead & (drawn.chances > -torch.inf), drawn.vectors)


OURS = codebook.replacements
RULES: dict[str, Callable[..., Replacements] | None] = {
    "none": None,
    "any vector": uniform,
    "by error": OURS,
}


def measure(start: str, rule: str, walk: float, seed: int) -> tuple[int, float]:
    """Entries used and mean squared error of vectors never seen, at the end."""
    torch.manual_seed(seed)
    source, used = Source(seed, walk), RULES[rule]
    layer = EMAVectorQuantizer(DIM, CLUSTERS, start=start, revive=used is not None)
    with mock.patch.object(codebook, "replacements", used or OURS):
        for _ in range(STEPS):
            layer(source.draw(BATCH))
            source.centers += source.step
    z = source.draw(EVALUATION)
    indices = layer.encode(z)
    return indices.unique().numel(), (z - layer.decode(indices)).square().mean().item()


def main() -> None:
    torch.set_num_threads(1)
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    print(heading("Starts and revival: what is left of a codebook's error"))
    print(
        f"{CLUSTERS} clusters, centres N(0, {SPREAD:g}^2), noise {NOISE:g}, D {DIM}, K {CLUSTERS};"
    )
    print(f"EMA, one batch to start from, {BATCH:,} fresh vectors a step, {STEPS} steps; error on")
    print(
        f"{EVALUATION:,} fresh vectors (the true centres leave {NOISE**2:.3f}), {len(seeds)} seeds."
    )
    print(
        f"Drifting: every centre walks {WALK:g} noise widths during training. A dead entry's place"
    )
    print("goes to nobody, to any vector of the batch, or to one drawn by its error (vqkit).\n")
    columns = f"{'start':<8} {'revival':<12} {'encoder':<9}"
    print(f"{columns} {'used, worst':>11} {'median':>8} {'worst':>8}")
    for start, rule, walk in product(("kmeans", "data", "normal"), RULES, (0.0, WALK)):
        used, errors = zip(*(measure(start, rule, walk, seed) for seed in seeds), strict=True)
        row = f"{start:<8} {rule:<12} {'drifting' if walk else 'frozen':<9}"
        middle = sorted(errors)[len(errors) // 2]
        print(f"{row} {min(used):>11} {middle:>8.4f} {max(errors):>8.4f}", flush=True)


if __name__ == "__main__":
    main()
