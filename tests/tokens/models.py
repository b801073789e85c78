"""A small tokenizer with random weights for tests of token sets."""

import torch
from torch import nn

from vqkit.autoencoder.model import VQVAE
from vqkit.data import TensorExamples
from vqkit.modalities.image.objective import GaussianObjective
from vqkit.quantizers import EMAVectorQuantizer


class TwoLevels(nn.Module):
    """From images (B, 1, H, W) to a coarse and a fine grid of vectors."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.Conv2d(1, 4, 2, stride=2)
        self.coarse = nn.Conv2d(1, 4, 4, stride=4)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.coarse(x), self.fine(x)


class Joined(nn.Module):
    """From the vectors of two grids to images."""

    def __init__(self) -> None:
        super().__init__()
        self.fine = nn.ConvTranspose2d(4, 1, 2, stride=2)
        self.coarse = nn.ConvTranspose2d(4, 1, 4, stride=4)

    def forward(self, coarse: torch.Tensor, fine: torch.Tensor) -> torch.Tensor:
        return (self.coarse(coarse) + self.fine(fine)).tanh()


def tokenizer(seed: int = 0, *, sizes: tuple[int, ...] = (16,)) -> VQVAE:
    """A tokenizer of one level of codes per codebook size, coarsest first."""
    torch.manual_seed(seed)
    quantizers = [EMAVectorQuantizer(4, size) for size in sizes]
    if len(sizes) == 2:
        encoder, decoder = TwoLevels(), Joined()
    else:
        encoder = nn.Sequential(nn.Conv2d(1, 4, 4, stride=4), nn.Conv2d(4, 4, 3, padding=1))
        decoder = nn.Sequential(nn.ConvTranspose2d(4, 1, 4, stride=4), nn.Tanh())
    model = VQVAE(encoder, quantizers, decoder, GaussianObjective()).eval()
    with torch.no_grad():
        features = encoder(2 * torch.rand(40, 1, 8, 12) - 1)
    for quantizer, vectors in zip(
        quantizers, features if len(sizes) == 2 else [features], strict=True
    ):
        quantizer.initialize(vectors.movedim(1, -1).reshape(-1, 4), seed=seed)
    return model


def images(num: int = 23, *, seed: int = 0, ragged: bool = False) -> TensorExamples:
    """Grey noise with labels of three classes; of several sizes if ragged."""
    torch.manual_seed(seed)
    sizes = [(8, 12), (12, 8), (16, 4)] if ragged else [(8, 12)]
    items = [
        (torch.randint(0, 256, (1, *sizes[i % len(sizes)]), dtype=torch.uint8), i % 3)
        for i in range(num)
    ]
    return TensorExamples(items, labels=("a", "<b>", "ç"))
