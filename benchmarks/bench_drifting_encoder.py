"""Does the codebook keep up with an encoder that moves? Clusters whose centres walk.

Each centre goes a straight way in a direction of its own, as evenly as the steps; the error is
that of fresh vectors where the centres are at last.

Run: python benchmarks/bench_drifting_encoder.py [seeds]
"""

import sys

import torch
from bench_frozen_encoder import DIM, NOISE, OURS, PEERS, SEEDS, explain, table
from measuring import heading

WIDTHS = 4
TARGET = 0.060
LENGTHS = {
    f"{WIDTHS} noise widths in all": WIDTHS * NOISE,
    f"{WIDTHS} noise widths along each coordinate": WIDTHS * NOISE * DIM**0.5,
}


def main() -> None:
    torch.set_num_threads(1)
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else SEEDS)
    print(heading("Drifting encoder: does the codebook keep up with centres that walk?"))
    explain(len(seeds))
    for name, length in LENGTHS.items():
        print(f"\nCentres that walk {name}, {length:.1f}:")
        table(OURS | PEERS, seeds, length=length, target=TARGET)


if __name__ == "__main__":
    main()
