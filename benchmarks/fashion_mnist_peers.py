"""Is our layer better than vector-quantize-pytorch's in the same network, at the same budget?

Fashion-MNIST, 7 x 7 codes of 512. Every layer sits in the same VQVAE and is trained by the same
engine on the same batches: only the quantizer differs. Whole test split, three seeds.

Run: python benchmarks/fashion_mnist_peers.py FOLDER_OF_IDX_FILES [--steps 3000] [--seeds 3]
     [--layers NAME ...]
"""

import argparse
import statistics
import sys
import time
from dataclasses import dataclass

import torch
from measuring import heading
from torch import Tensor
from vector_quantize_pytorch import VectorQuantize

from vqkit.autoencoder import VQVAE
from vqkit.evaluation import evaluate
from vqkit.means import Mean
from vqkit.modalities.image import ImageModelConfig
from vqkit.modalities.image.data import ImageDataConfig, open_images
from vqkit.modalities.image.network import ConvConfig
from vqkit.quantizers import (
    EMAVectorQuantizer,
    Normalized,
    Quantized,
    Quantizer,
    VectorQuantizer,
)
from vqkit.training import TrainConfig, fit

SIZE, DIM = 512, 64
PEERS = {
    "vector-quantize-pytorch, defaults": {},
    "vector-quantize-pytorch, revival": {"threshold_ema_dead_code": 2},
    "vector-quantize-pytorch, revival + k-means": {
        "threshold_ema_dead_code": 2,
        "kmeans_init": True,
    },
}
OURS = {
    "vqkit EMA, defaults": EMAVectorQuantizer,
    "vqkit gradient, defaults": VectorQuantizer,
    # Even use is bought with error; the weight was chosen of 0.25, 0.75, 1 and 2.
    "vqkit gradient, length 1, commitment 2": lambda dim, size: Normalized(
        VectorQuantizer(dim, size, commitment=2.0), "l2"
    ),
}


class Peer(Quantizer):
    """The other library's layer behind our interface: it has its own losses and updates."""

    def __init__(self, **options: object) -> None:
        super().__init__(DIM)
        self.layer = VectorQuantize(dim=DIM, codebook_size=SIZE, **options)

    @property
    def codebook_sizes(self) -> tuple[int, ...]:
        return (SIZE,)

    def forward(self, z_e: Tensor, mask: Tensor | None = None) -> Quantized:
        z_q, indices, loss = self.layer(z_e.flatten(1, -2))
        count = torch.tensor(indices.numel())
        objective = Mean(loss.sum() * count, count)
        return Quantized(z_q.view_as(z_e), indices.view(*z_e.shape[:-1], 1), objective, {})

    def encode(self, z_e: Tensor, mask: Tensor | None = None) -> Tensor:
        training = self.layer.training
        _, indices, _ = self.layer.eval()(z_e.flatten(1, -2))
        self.layer.train(training)
        return indices.view(*z_e.shape[:-1], 1)

    def decode(self, indices: Tensor) -> Tensor:
        return self.layer.get_output_from_indices(indices.squeeze(-1))


@dataclass(frozen=True)
class Result:
    mse_over_variance: float
    perplexity: float
    usage: float
    minutes: float


def train(quantizer: Quantizer, seed: int, arguments: argparse.Namespace) -> Result:
    splits = open_images(ImageDataConfig(path=arguments.folder, channels=1))
    config = ImageModelConfig(channels=1, network=ConvConfig(hidden=arguments.hidden, dim=DIM))
    built = VQVAE.from_config(config)
    model = VQVAE(built.encoder, quantizer, built.decoder, built.objective)
    budget = TrainConfig(
        steps=arguments.steps, batch_size=64, seed=seed, progress="none", learning_rate=1e-3
    )
    start = time.process_time()
    fit(model, splits.train, budget)
    minutes = (time.process_time() - start) / 60
    found = evaluate(model, splits.evaluation, batch_size=250, num_shown=0, num_entries=0)
    stats = found.stats[0][0]
    error = found.metrics["mse_over_variance"]
    return Result(error, stats.perplexity, stats.usage, minutes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--hidden", type=int, default=64)
    parser.add_argument("--layers", nargs="+", default=list(OURS | PEERS), choices=OURS | PEERS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(heading("Our layers and vector-quantize-pytorch's in the same network, Fashion-MNIST"))
    print(f"Test split, 7 x 7 codes of {SIZE}, hidden {arguments.hidden}")
    print(f"{arguments.steps} steps of 64, learning rate 1e-3 with cosine")
    results: dict[str, list[Result]] = {}
    for seed in range(arguments.seeds):
        for name in arguments.layers:
            torch.manual_seed(seed)
            quantizer = OURS[name](DIM, SIZE) if name in OURS else Peer(**PEERS[name])
            torch.manual_seed(seed)
            result = train(quantizer, seed, arguments)
            results.setdefault(name, []).append(result)
            print(f"  seed {seed}  {name:45} {result}", file=sys.stderr, flush=True)
    print(f"{'layer':45} {'MSE / variance':>15} {'perplexity':>11} {'usage':>7} {'CPU min':>8}")
    for name, rows in results.items():
        mean = {key: statistics.mean(getattr(row, key) for row in rows) for key in vars(rows[0])}
        print(
            f"{name:45} {mean['mse_over_variance']:15.4f} {mean['perplexity']:11.1f} "
            f"{mean['usage']:7.1%} {mean['minutes']:8.1f}"
        )
    print(
        "Each seed: "
        + str({n: [round(r.mse_over_variance, 4) for r in rs] for n, rs in results.items()})
    )


if __name__ == "__main__":
    main()
