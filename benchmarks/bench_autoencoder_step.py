"""How much faster than the usual code is a whole training step, and what does quantizing cost?

Run: python benchmarks/bench_autoencoder_step.py [rounds]
"""

import statistics
import sys
from collections.abc import Callable
from itertools import cycle

import torch
import torch.nn.functional as F
from measuring import cpu_ms, heading
from torch import Tensor, nn
from vector_quantize_pytorch import VectorQuantize

from vqkit.autoencoder import VQVAE
from vqkit.modalities.image import ImageModelConfig

BATCH, CHANNELS, SIZE, BATCHES = 128, 3, 32, 8
HIDDEN, RESIDUAL, DIM, CODEBOOK_SIZE = 128, 32, 64, 512
ROUNDS = 25
VARIANCE = 0.25
RATE = 3e-4
DEFAULT, LAST = torch.contiguous_format, torch.channels_last

Step = Callable[[], object]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(HIDDEN, RESIDUAL, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(RESIDUAL, HIDDEN, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


def encoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(CHANNELS, HIDDEN // 2, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(HIDDEN // 2, HIDDEN, 4, 2, 1),
        nn.ReLU(),
        nn.Conv2d(HIDDEN, HIDDEN, 3, 1, 1),
        nn.ReLU(),
        Block(),
        Block(),
        nn.ReLU(),
        nn.Conv2d(HIDDEN, DIM, 1),
    )


def decoder() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(DIM, HIDDEN, 3, 1, 1),
        Block(),
        Block(),
        nn.ReLU(),
        nn.ConvTranspose2d(HIDDEN, HIDDEN // 2, 4, 2, 1),
        nn.ReLU(),
        nn.ConvTranspose2d(HIDDEN // 2, CHANNELS, 4, 2, 1),
    )


class UsualQuantizer(nn.Module):
    """Running averages the usual way: all distances at once, and a one-hot matrix."""

    def __init__(self, decay: float = 0.99) -> None:
        super().__init__()
        self.decay = decay
        self.register_buffer("entries", torch.randn(CODEBOOK_SIZE, DIM))
        self.register_buffer("counts", torch.zeros(CODEBOOK_SIZE))
        self.register_buffer("sums", self.entries.clone())

    def forward(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        vectors = z_e.permute(0, 2, 3, 1).contiguous()
        flat = vectors.view(-1, DIM)
        distances = (
            flat.pow(2).sum(1, keepdim=True)
            + self.entries.pow(2).sum(1)
            - 2 * flat @ self.entries.t()
        )
        one_hot = F.one_hot(distances.argmin(1), CODEBOOK_SIZE).to(flat.dtype)
        z_q = (one_hot @ self.entries).view(vectors.shape)
        with torch.no_grad():
            self.counts.mul_(self.decay).add_(one_hot.sum(0), alpha=1 - self.decay)
            total = self.counts.sum()
            counts = (self.counts + 1e-5) / (total + CODEBOOK_SIZE * 1e-5) * total
            self.sums.mul_(self.decay).add_(one_hot.t() @ flat, alpha=1 - self.decay)
            self.entries.copy_(self.sums / counts.unsqueeze(1))
        commitment = F.mse_loss(vectors, z_q.detach())
        z_q = vectors + (z_q - vectors).detach()
        return z_q.permute(0, 3, 1, 2).contiguous(), commitment


class Peer(nn.Module):
    """The layer of vector-quantize-pytorch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = VectorQuantize(
            DIM, CODEBOOK_SIZE, decay=0.99, commitment_weight=1.0, accept_image_fmap=True
        )

    def forward(self, z_e: Tensor) -> tuple[Tensor, Tensor]:
        z_q, _, commitment = self.layer(z_e)
        return z_q, commitment


def plain(quantizer: nn.Module, batches: list[Tensor], layout: torch.memory_format) -> Step:
    """A step of plain PyTorch with a layer that gives z_q and the commitment."""
    model = nn.ModuleList([encoder(), quantizer, decoder()]).to(memory_format=layout)
    optimizer = torch.optim.Adam(model.parameters(), RATE)
    source = cycle([(x / 127.5 - 1).contiguous(memory_format=layout) for x in batches])

    def step() -> None:
        x = next(source)
        z_q, commitment = model[1](model[0](x))
        loss = F.mse_loss(model[2](z_q), x) / VARIANCE + 0.25 * commitment
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def ours(batches: list[Tensor], *, quantized: bool) -> Step:
    """A step of vqkit as the training engine makes it, or the same without a quantizer."""
    model = VQVAE.from_config(ImageModelConfig()).to(memory_format=torch.channels_last)
    model.initialize(batches, seed=0)
    model.quantizers[0].commit_in_forward = False
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], RATE)
    source = cycle(batches)

    def loss(x: Tensor) -> Tensor:
        if quantized:
            return model(x).loss
        x = model.objective.normalize(x)
        outputs = model.decoder(model.encoder(x))
        return model.objective.loss(outputs, x, None)["reconstruction"].value

    def step() -> None:
        x = next(source).contiguous(memory_format=torch.channels_last)
        optimizer.zero_grad()
        loss(x).backward()
        optimizer.step()
        if quantized:
            model.commit()

    return step


def pictures() -> list[Tensor]:
    """Smooth colours, as photographs have, so that codes are not all alike, in several batches, as
    training has other images in every step. Each (B, C, H, W) uint8"""
    torch.manual_seed(0)
    coarse = torch.randn(BATCHES * BATCH, CHANNELS, 8, 8)
    smooth = F.interpolate(coarse, size=SIZE, mode="bicubic") + 0.1 * torch.randn(1, 1, SIZE, SIZE)
    images = ((smooth / 2).clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)
    return list(images.split(BATCH))


def main() -> None:
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    torch.set_num_threads(1)
    batches = pictures()
    steps = {
        "a  plain PyTorch, usual EMA quantizer": plain(UsualQuantizer(), batches, DEFAULT),
        "b  vqkit, EMAVectorQuantizer": ours(batches, quantized=True),
        "c  vqkit without a quantizer": ours(batches, quantized=False),
        "d  plain PyTorch, vector-quantize-pytorch": plain(Peer(), batches, DEFAULT),
        "e  a with channels last, as vqkit has them": plain(UsualQuantizer(), batches, LAST),
        "f  d with channels last, as vqkit has them": plain(Peer(), batches, LAST),
    }
    print(heading("The whole training step, and what quantizing costs"))
    print(f"whole training step, Adam, {BATCH} x {CHANNELS} x {SIZE} x {SIZE}, hidden {HIDDEN},")
    print(f"D {DIM}, K {CODEBOOK_SIZE}; process CPU ms, median (quartiles) of {rounds} in turns")
    times = cpu_ms(steps, rounds, warm_up=3)
    for name, values in times.items():
        low, middle, high = statistics.quantiles(values, n=4)
        print(f"{name:<42} {middle:6.1f}  ({low:.1f} to {high:.1f})")
    a, b, c, d, e, f = times.values()
    print("ratios within a round, median (quartiles):")
    print(f"a / b  {ratio(a, b)}  how many times as fast as the usual code; target at least 1.20")
    print(f"d / b  {ratio(d, b)}  how many times as fast as with vector-quantize-pytorch")
    print(f"e / b  {ratio(e, b)}  how many times as fast as the usual code, channels last")
    print(f"f / b  {ratio(f, b)}  the same with vector-quantize-pytorch")
    print(f"b / c  {ratio(b, c)}  what quantizing costs; target at most 1.06")


def ratio(above: list[float], below: list[float]) -> str:
    """Median and quartiles of the ratios of the same round."""
    ratios = [x / y for x, y in zip(above, below, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
