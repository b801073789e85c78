"""What does the weight of the commitment do to error, use and the length of encoder outputs?

CIFAR-10, the network of the preset cifar10, K = 1,024.

Run: python benchmarks/cifar10_commitment.py FOLDER_OF_PARQUET_FILES [--steps 3000] [--rows ROW ...]
Rows that are done are kept in results/cifar10-runs.jsonl and not run again.
"""

from cifar10_runs import Run, parser, results
from measuring import heading

from vqkit.quantizers import EMAConfig, VQConfig

K = 1_024
WEIGHTS = (0.1, 0.25, 0.5, 1.0, 2.0)
KINDS = {"ema": EMAConfig, "vq": VQConfig}
RUNS = {
    f"{kind} {weight:g}": Run(config(codebook_size=K, commitment=weight))
    for kind, config in KINDS.items()
    for weight in WEIGHTS
}


def main() -> None:
    options = parser(__doc__, list(RUNS)).parse_args()
    found = results(options, RUNS)
    print(heading("The weight of the commitment, in the network of the preset cifar10"))
    commits = ", ".join(sorted({row["commit"] for row in found.values()}))
    vectors = next(iter(found.values()))["test"]["vectors"]
    print(f"{options.steps:,} steps of 32, schedule of the preset, one seed; trained at {commits}.")
    print(
        f"K {K:,}, all other options at their defaults; over {vectors:,} vectors of the whole test"
    )
    print("split. |z_e|: mean length of the encoder's outputs, of 64 coordinates.\n")
    print(f"{'':<10} {'MSE / var':>9} {'usage':>7} {'perp / K':>8} {'|z_e|':>8}")
    for name, row in found.items():
        print(
            f"{name:<10} {row['mse_over_variance']:>9.4f} {row['test']['usage']:>7.1%} "
            f"{row['test']['evenness']:>8.3f} {row['norm']:>8.3f}"
        )


if __name__ == "__main__":
    main()
