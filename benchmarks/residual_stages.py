"""Does the error of a residual quantizer fall with every stage, and does any prefix decode?

Real vectors: patches of 4 x 4 pixels of a folder of images, or the arrays train and test of an npz
file. One model is trained; the first 1, 2, ... stages of its codes of the test split are decoded.

Run: python benchmarks/residual_stages.py FOLDER_OR_NPZ [FOLDER_OR_NPZ ...]
"""

import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measuring import heading
from torch import Tensor

from vqkit.data import in_order
from vqkit.modalities.image.data import ImageDataConfig, open_images
from vqkit.quantizers import EMAVectorQuantizer, Residual

STAGES, SIZE, BATCH, STEPS, RESERVOIR, PATCH, IMAGES = 8, 256, 2_048, 400, 16_384, 4, 2_000
DROPOUT = 0.5


def vectors(path: Path) -> tuple[Tensor, Tensor]:
    """Vectors for training and for the test, of variance 1 over all. (N, D) each"""
    if path.suffix == ".npz":
        arrays = np.load(path)
        train, test = (torch.from_numpy(arrays[name]).float() for name in ("train", "test"))
    else:
        splits = open_images(ImageDataConfig(path=str(path)))
        train, test = patches(splits.train), patches(splits.evaluation)
    return (train - train.mean()) / train.std(), (test - train.mean()) / train.std()


def patches(images) -> Tensor:
    """All squares of PATCH x PATCH pixels of the first images. (N, 3 PATCH^2)"""
    (batch,) = in_order(images, IMAGES, indices=range(min(IMAGES, len(images))))
    return F.unfold(batch.x.float(), PATCH, stride=PATCH).movedim(1, -1).flatten(0, 1)


def ema(dim: int, *, shared: bool = False, dropout: float = 0.0, beams: int = 1) -> Residual:
    made = [EMAVectorQuantizer(dim, SIZE) for _ in range(1 if shared else STAGES)]
    return Residual(made * (STAGES // len(made)), dropout=dropout, beams=beams)


ROWS = {
    "ema": ema,
    f"ema, dropout {DROPOUT}": lambda dim: ema(dim, dropout=DROPOUT),
    "ema, one codebook": lambda dim: ema(dim, shared=True),
    "ema, encoding with 4 beams": lambda dim: ema(dim, beams=4),
}


def trained(layer: Residual, train: Tensor) -> Residual:
    """The layer after STEPS batches; nothing has gradients."""
    generator = torch.Generator().manual_seed(0)
    rows = torch.randperm(len(train), generator=generator)[:RESERVOIR]
    layer.initialize(train[rows], seed=0)
    for _ in range(STEPS):
        # Items of one vector each, so that dropout draws for each vector.
        layer(train[torch.randint(len(train), (BATCH,), generator=generator)].unsqueeze(1))
    return layer.eval()


@torch.no_grad()
def errors(layer: Residual, test: Tensor) -> list[float]:
    """Mean squared error over variance after 1, 2, ... stages, decoded from the codes alone."""
    indices = layer.encode(test)
    prefixes = [layer.decode(indices[..., :num]) for num in range(1, STAGES + 1)]
    return [((z_q - test).square().mean() / test.var()).item() for z_q in prefixes]


def main() -> None:
    torch.set_num_threads(1)
    paths = [Path(word) for word in sys.argv[1:]]
    if not paths:
        sys.exit(__doc__)
    print(heading("Residual quantizers on real vectors: the error after each stage"))
    print(f"{STAGES} stages of {SIZE} entries, {STEPS:,} steps of {BATCH:,} vectors, started from")
    print(
        f"{RESERVOIR:,}; all else at the defaults. Mean squared error / variance of the test split,"
    )
    print("decoded from the first 1 to 8 indices of each vector.")
    for path in paths:
        train, test = vectors(path)
        what = path.name if path.suffix == ".npz" else f"patches of {PATCH} x {PATCH} pixels"
        print(
            f"\n{what}: {len(train):,} for training, {len(test):,} for the test, D {test.shape[-1]}"
        )
        print(f"{'stages':<28}" + "".join(f"{number:>8}" for number in range(1, STAGES + 1)))
        for name, make in ROWS.items():
            torch.manual_seed(0)
            found = errors(trained(make(test.shape[-1]), train), test)
            falls = all(after < before for before, after in pairwise(found))
            line = "".join(f"{error:>8.4f}" for error in found)
            print(
                f"{name:<28}{line}  falls with every stage: {'yes' if falls else 'NO'}", flush=True
            )


if __name__ == "__main__":
    main()
