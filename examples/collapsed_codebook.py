"""A codebook that collapses on purpose: what its figures say, and how it is repaired.

Run: python examples/collapsed_codebook.py    (some seconds)
"""

import copy

import torch
from torch import Tensor

from vqkit.quantizers import Codebook, EMAVectorQuantizer

DIM, SIZE = 8, 64
torch.manual_seed(0)
centers = torch.randn(SIZE, DIM)


def vectors(num: int) -> Tensor:
    """What an encoder gives that is not trained any more: 64 clusters of noise 0.1. (num, D)"""
    return centers[torch.randint(SIZE, (num,))] + 0.1 * torch.randn(num, DIM)


def train(layer: EMAVectorQuantizer, steps: int = 100) -> None:
    for _ in range(steps):
        layer.train()(vectors(512))


def tell(what: str, layer: EMAVectorQuantizer) -> None:
    usage, z_e = layer.codebook.usage(), vectors(8192)
    error = (layer.decode(layer.encode(z_e)) - z_e).square().mean()
    figures = f"{usage.size:7} {usage.used:4} {usage.dead:4} {usage.revived:7}"
    print(f"{what:<34} {figures} {usage.perplexity:10.1f} {error:7.4f}")


with torch.no_grad():
    print(f"{'':<34} entries used dead revived perplexity   error")
    # Entries far from all vectors, and nothing that helps those which nobody chooses.
    far = Codebook.from_entries(5 + torch.randn(SIZE, DIM))
    layer = EMAVectorQuantizer(DIM, SIZE, codebook=far, revive=False)
    train(layer)
    tell("collapsed", layer)

    smaller = copy.deepcopy(layer)
    indices = smaller.encode(vectors(100))
    before, remap = smaller.decode(indices), smaller.codebook.prune()
    assert torch.equal(smaller.decode(remap[indices]), before)  # old codes mean what they meant
    tell("without training: pruned", smaller)
    smaller.codebook.extend(vectors(SIZE - smaller.codebook.size))
    tell("  extended by some vectors", smaller)
    smaller.refit([vectors(4096) for _ in range(4)])
    tell("  refitted", smaller)

    layer.revive = True
    train(layer)
    tell("with training: revive=True", layer)
    layer.refit([vectors(4096) for _ in range(4)])
    tell("  refitted", layer)
    layer.codebook.freeze()
    train(layer)
    tell("  frozen, for a decoder to train", layer)
