"""What does each quantizer do in the same network, on the same batches, at the same budget?

CIFAR-10, the preset cifar10 with another quantizer in each row, of 10 bits for each position where
it has one code there. Step times are measured apart, in turns with the network without a quantizer.

Run: python benchmarks/cifar10_quantizers.py FOLDER_OF_PARQUET_FILES [--steps 3000] [--rows ROW ...]
Rows that are done are kept in results/cifar10-runs.jsonl and not run again.
"""

import statistics
from functools import partial
from itertools import cycle

import torch
from cifar10_runs import Run, network, opened, parser, preset, results
from measuring import Task, cpu_ms_apart, heading
from torch import Tensor, nn

from vqkit.means import Mean
from vqkit.quantizers import (
    Annealing,
    Balanced,
    BSQConfig,
    EMAConfig,
    FSQConfig,
    GumbelConfig,
    IBQConfig,
    LatentConfig,
    LFQConfig,
    MultiScaleConfig,
    NormalizedConfig,
    ProductConfig,
    ProjectedConfig,
    Quantized,
    Quantizer,
    RandomProjectionConfig,
    ResidualConfig,
    Sampled,
    SelectiveConfig,
    SimVQConfig,
    SQConfig,
    VQConfig,
)

K, STEPS, ROUNDS, TURN = 1_024, 3_000, 7, 4
PRESET = {"decay": 0.995, "decay_warmup": 50, "dead_after": 16}
OVER_THE_RUN = Annealing(steps=STEPS)
SMALL = EMAConfig(codebook_size=256)
CONFIGS = {
    "ema": EMAConfig(codebook_size=K),
    "vq": VQConfig(codebook_size=K),
    "fsq 8 5 5 5": ProjectedConfig(quantizer=FSQConfig(), dim=4),
    "simvq": SimVQConfig(codebook_size=K),
    "lfq": ProjectedConfig(quantizer=LFQConfig(), dim=10),
    "bsq": ProjectedConfig(quantizer=BSQConfig(), dim=10),
    "vq directional": VQConfig(codebook_size=K, gradient="directional"),
    "vq rotation": VQConfig(codebook_size=K, gradient="rotation"),
    "ibq": IBQConfig(codebook_size=K),
    "gumbel": GumbelConfig(codebook_size=K, annealing=OVER_THE_RUN),
    "sq": SQConfig(codebook_size=K, annealing=OVER_THE_RUN),
    "latent 8 5 5 5": ProjectedConfig(quantizer=LatentConfig(), dim=4),
    "random projection": RandomProjectionConfig(codebook_size=K),
    "residual ema, 4 x 256": ResidualConfig(quantizer=SMALL, stages=4),
    "product ema, 4 x 256": ProductConfig(quantizer=SMALL, parts=4),
    "grouped residual ema, 2 x 2 x 256": ProductConfig(
        quantizer=ResidualConfig(quantizer=SMALL, stages=2), parts=2
    ),
    "residual fsq, 2 x 8 5 5 5": ProjectedConfig(
        quantizer=ResidualConfig(quantizer=FSQConfig(), stages=2), dim=4
    ),
    "multi-scale ema, 1 2 4 8": MultiScaleConfig(quantizer=EMAConfig(codebook_size=K)),
    "selective ema, keep 0.5": SelectiveConfig(quantizer=EMAConfig(codebook_size=K)),
    "projected ema, 8": ProjectedConfig(quantizer=EMAConfig(codebook_size=K), dim=8),
    "normalized vq, l2": NormalizedConfig(quantizer=VQConfig(codebook_size=K), how="l2"),
    "ema, preset's options": EMAConfig(codebook_size=K, **PRESET),
    "ema cosine": EMAConfig(codebook_size=K, metric="cosine"),
    "vq cosine": VQConfig(codebook_size=K, metric="cosine"),
    "ema rotation": EMAConfig(codebook_size=K, gradient="rotation"),
    "ema sampled": EMAConfig(codebook_size=K, assignment=Sampled()),
    "ema balanced": EMAConfig(codebook_size=K, assignment=Balanced()),
}
RUNS = {name: Run(config) for name, config in CONFIGS.items()}


class Nothing(Quantizer):
    """Hands vectors on as they are."""

    codebook_sizes = (2,)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        objective = Mean(z_e.new_zeros(()), torch.tensor(z_e[..., 0].numel()))
        return Quantized(z_e, self.encode(z_e), objective, {})

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.zeros(*z_e.shape[:-1], 1, dtype=torch.int64)

    def decode(self, indices: Tensor) -> Tensor:
        return torch.zeros(*indices.shape[:-1], self.dim)


def training_step(options, name: str | None, pixels: Tensor) -> Task:
    """Forward, backward and optimizer of the network, with the quantizer of a row or none."""
    config = preset(options)
    dim, train = config.model.network.dim, config.train
    torch.manual_seed(options.seed)
    quantizer = Nothing(dim) if name is None else CONFIGS[name].build(dim)
    model = network(config.model, quantizer, options.seed).to(memory_format=torch.channels_last)
    model.initialize(pixels.split(train.batch_size), seed=options.seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), train.learning_rate, train.betas, weight_decay=0, fused=True
    )
    source = cycle(pixels.split(train.batch_size))
    model.train()

    def step() -> None:
        optimizer.zero_grad()
        model(next(source).contiguous(memory_format=torch.channels_last)).loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), train.clip_norm or torch.inf)
        optimizer.step()

    return step


def step_ms(options, name: str, pixels: Tensor) -> tuple[float, float]:
    """Process CPU time of a step, and that relative to the network without a quantizer."""
    makers = {each: partial(training_step, options, each, pixels) for each in (None, name)}
    times = cpu_ms_apart({str(each): make for each, make in makers.items()}, ROUNDS, TURN)
    without, with_it = (statistics.median(values) for values in times.values())
    return with_it, with_it / without


def main() -> None:
    words = parser(__doc__, list(RUNS), STEPS)
    words.add_argument("--train-only", action="store_true", help="measure no step times")
    options = words.parse_args()
    found = results(options, RUNS)
    if options.train_only:
        return
    train = opened(options).train
    least = max(8 * 32, K // 64)
    pixels = torch.stack([train.example(number).x for number in range(least)])
    torch.set_num_threads(1)
    print(
        heading("Every quantizer in the network of the preset cifar10, over the whole test split")
    )
    commits = ", ".join(sorted({row["commit"] for row in found.values()}))
    print(f"{options.steps:,} steps of 32, schedule of the preset, one seed; trained at {commits}.")
    print("All options at their defaults, but for sizes, what the name says, and the annealing of")
    print(f"gumbel and sq over {STEPS:,} steps. fsq, lfq, bsq and latent are behind Projected.")
    vectors = next(iter(found.values()))["test"]["vectors"]
    print(f"Usage and perplexity / K: means over the codebooks, {vectors:,} vectors each.")
    print(
        "Bits of an image: log2 K and entropy, summed over positions and codebooks. Step: process"
    )
    print(
        f"CPU time, median of {ROUNDS} turns of {TURN} steps, in turns with the network without a"
    )
    print("quantizer, each in a process of its own; 'times' is relative to that.\n")
    print(
        f"{'quantizer':<34} {'MSE / var':>9} {'usage':>7} {'perp / K':>8} {'bits':>6} "
        f"{'entropy':>8} {'ms':>6} {'times':>6}"
    )
    for name, row in found.items():
        ms, times = step_ms(options, name, pixels)
        test = row["test"]
        print(
            f"{name:<34} {row['mse_over_variance']:>9.4f} {test['usage']:>7.1%} "
            f"{test['evenness']:>8.3f} {test['bits']:>6.0f} {test['entropy']:>8.1f} "
            f"{ms:>6.1f} {times:>6.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
