"""Are large codebooks used, and do they help? K to 65,536 in the network of the preset cifar10.

Use is counted over all codes of the training split, 3.2 million, and over those of the test split.

Run: python benchmarks/cifar10_large_codebooks.py FOLDER_OF_PARQUET_FILES [--steps 3000]
     [--rows ROW ...]
Rows that are done are kept in results/cifar10-runs.jsonl and not run again.
"""

from cifar10_runs import Run, parser, results
from measuring import heading

from vqkit.quantizers import (
    BSQConfig,
    EMAConfig,
    FSQConfig,
    LFQConfig,
    ProjectedConfig,
    SimVQConfig,
    VQConfig,
)

LARGE, LARGEST = 16_384, 65_536
RUNS = {
    "ema, 1,024": Run(EMAConfig(codebook_size=1_024)),
    "ema, 16,384": Run(EMAConfig(codebook_size=LARGE), True),
    "fsq 16 16 16 16, 65,536": Run(
        ProjectedConfig(quantizer=FSQConfig(levels=(16, 16, 16, 16)), dim=4), True
    ),
    "ema, 65,536": Run(EMAConfig(codebook_size=LARGEST), True),
    "vq, 65,536": Run(VQConfig(codebook_size=LARGEST), True),
    "bsq, 16 bits, 65,536": Run(ProjectedConfig(quantizer=BSQConfig(), dim=16), True),
    "simvq, 65,536": Run(SimVQConfig(codebook_size=LARGEST), True),
    "lfq, 16 bits, 65,536": Run(ProjectedConfig(quantizer=LFQConfig(), dim=16), True),
}


def cells(split: dict | None) -> str:
    """Usage and perplexity / K of a split."""
    if split is None:
        return f"{'':>8} {'':>8}"
    return f"{split['usage']:>8.2%} {split['evenness']:>8.3f}"


def main() -> None:
    options = parser(__doc__, list(RUNS)).parse_args()
    found = results(options, RUNS)
    print(heading("Large codebooks in the network of the preset cifar10"))
    commits = ", ".join(sorted({row["commit"] for row in found.values()}))
    test = next(iter(found.values()))["test"]["vectors"]
    train = max((row["train"]["vectors"] for row in found.values() if row["train"]), default=0)
    print(f"{options.steps:,} steps of 32, schedule of the preset, one seed; trained at {commits}.")
    print(
        "All options at their defaults but for sizes and what the name says; fsq, lfq and bsq are"
    )
    print(
        f"behind Projected. Usage and perplexity / K over {train:,} vectors of the training split"
    )
    print(
        f"and {test:,} of the test split; error over the test split. Minutes: process CPU time of"
    )
    print("the training. Peak: the most memory of the process until its training ended.\n")
    print(f"{'':<34} {'MSE':>7} {'of the training':>17} {'of the test':>17} {'CPU':>7} {'peak':>7}")
    print(
        f"{'quantizer':<34} {'/ var':>7} {'usage':>8} {'perp / K':>8} {'usage':>8} {'perp / K':>8} "
        f"{'minutes':>7} {'MB':>7}"
    )
    for name, row in found.items():
        print(
            f"{name:<34} {row['mse_over_variance']:>7.4f} {cells(row['train'])} "
            f"{cells(row['test'])} {row['minutes']:>7.1f} {row['peak_mb']:>7,.0f}"
        )


if __name__ == "__main__":
    main()
