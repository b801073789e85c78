"""Semantic IDs of items: collisions before the suffix, purity of what prefixes share, and a probe.

The items of an npz file with train_x, train_y, test_x and test_y get three codes of 256: by
residual k-means alone, and by an MLP around a residual quantizer, whose training gives each vector
the nearest entry, or one after prices that make all entries used alike.

Run: python benchmarks/semantic_ids.py NPZ [STEPS]
"""

import sys
import time
from pathlib import Path

import torch
from measuring import heading

from vqkit.autoencoder import VQVAE
from vqkit.cli.ids import ids_of
from vqkit.evaluation import probe
from vqkit.modalities.vector import (
    IdentityConfig,
    MLPConfig,
    VectorDataConfig,
    VectorExamples,
    VectorModelConfig,
)
from vqkit.quantizers import Balanced, EMAConfig, ResidualConfig
from vqkit.tokens import SemanticIDs
from vqkit.tokens.prefixes import prefix_groups, purity
from vqkit.training import TrainConfig, fit

STAGES, SIZE, STEPS = 3, 256, 3_000
PROBED = ("histogram", "z_q", "z_e", "input")
NETWORK = MLPConfig(hidden=(128,), dim=16)
NEAREST = EMAConfig(codebook_size=SIZE)
BALANCED = EMAConfig(codebook_size=SIZE, assignment=Balanced())
ROWS = {
    "k-means, no network": (IdentityConfig(), NEAREST),
    "MLP, nearest": (NETWORK, NEAREST),
    "MLP, balanced": (NETWORK, BALANCED),
}


def model(network: MLPConfig | IdentityConfig, stage: EMAConfig, columns: int) -> VQVAE:
    torch.manual_seed(0)
    quantizer = ResidualConfig(quantizer=stage, stages=STAGES)
    return VQVAE.from_config(
        VectorModelConfig(columns=columns, network=network, quantizer=quantizer)
    )


def share_of_copies(items: VectorExamples) -> float:
    """The share of items that equal another: no code tells these apart."""
    x = torch.stack([items.example(number).x for number in range(len(items))])
    _, which, counts = x.unique(dim=0, return_inverse=True, return_counts=True)
    return float((counts[which] > 1).double().mean())


def figures(ids: SemanticIDs) -> list[str]:
    groups = prefix_groups(ids.codes, ids.sizes)
    names = [name or "" for name in ids.labels or ()]
    numbers = {name: number for number, name in enumerate(sorted(set(names)))}
    labels = torch.tensor([numbers[name] for name in names])
    used = [len(column.unique()) for column in ids.codes.unbind(1)]
    pure = [f"{purity(group, labels):.1%} / {int(group.max()) + 1:,}" for group in groups]
    return [
        f"{ids.collision_rate:.2%}",
        str(ids.level_sizes[-1]),
        "+".join(map(str, used)),
        *pure,
    ]


def main() -> None:
    torch.set_num_threads(1)
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    steps = int(sys.argv[2]) if len(sys.argv) == 3 else STEPS
    data = VectorDataConfig(path=sys.argv[1]).open()
    print(heading(f"Semantic IDs of {Path(sys.argv[1]).stem}: {STAGES} codes of {SIZE}"))
    shape, classes = data.train.shape[0], len(data.train.labels)
    print(f"{len(data.train):,} items of {shape} numbers, {classes} classes;")
    print(f"{share_of_copies(data.train):.2%} of the items equal another. {steps:,} steps of 512.")
    print("Purity / number of groups of equal first codes; then accuracy of a linear probe on the")
    print("histogram of codes, z_q, z_e and the input.")
    columns = (
        "train s",
        "collisions",
        "most equal",
        "entries used",
        "1 code",
        "2 codes",
        "3 codes",
    )
    print(f"{'':<22}" + "".join(f"{name:>16}" for name in (*columns, *PROBED)))
    for name, (network, stage) in ROWS.items():
        alone = isinstance(network, IdentityConfig)
        config = TrainConfig(steps=25 if alone else steps, batch_size=512, progress="none")
        began = time.process_time()
        made = fit(model(network, stage, data.train.shape[0]), data.train, config)
        took = f"{time.process_time() - began:.1f}"
        ids = ids_of(made, data.train, 512)
        features = probe(made, data.train, data.evaluation)["features"]
        cells = (took, *figures(ids), *(f"{features[key]['accuracy']:.1%}" for key in PROBED))
        print(f"{name:<22}" + "".join(f"{cell:>16}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
