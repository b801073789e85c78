"""What a training step needs: memory for vectors and for entries, never for all their pairs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vqkit.quantizers import (
    Balanced,
    Codebook,
    EMAVectorQuantizer,
    GumbelQuantizer,
    IndexBackpropQuantizer,
    Quantizer,
    Sampled,
    StochasticQuantizer,
    VectorQuantizer,
)

NUM, SIZE, DIM = 8_000, 1_000, 4  # 8 M pairs, and 36,000 numbers in vectors and entries
KINDS: dict[str, tuple[type[Quantizer], dict[str, Any]]] = {
    "vq": (VectorQuantizer, {}),
    "ema": (EMAVectorQuantizer, {}),
    "rotated ema": (EMAVectorQuantizer, {"gradient": "rotation"}),
    "sampled vq": (VectorQuantizer, {"assignment": Sampled()}),
    "balanced ema": (EMAVectorQuantizer, {"assignment": Balanced()}),
    "gumbel": (GumbelQuantizer, {}),
    "sq": (StochasticQuantizer, {}),
    "ibq": (IndexBackpropQuantizer, {}),
}


class Largest(TorchDispatchMode):
    """How many numbers the largest tensor has that is made inside."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, list | tuple) else [out]:
            self.numel = max(self.numel, tensor.numel() if isinstance(tensor, Tensor) else 0)
        return out


@contextmanager
def kept() -> Iterator[list[int]]:
    """How many numbers each tensor has that the backward pass will read."""
    found: list[int] = []

    def keep(tensor: Tensor) -> Tensor:
        found.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield found


@pytest.mark.parametrize("name", KINDS)
def test_a_training_step_needs_memory_for_vectors_and_entries_not_for_their_pairs(name: str):
    kind, options = KINDS[name]
    book = Codebook.from_entries(torch.randn(SIZE, DIM))
    book.unused_for += 10**6  # revival is part of the step
    layer = kind(DIM, SIZE, codebook=book, **options)  # pyright: ignore[reportCallIssue]
    z_e = torch.randn(NUM, DIM, requires_grad=True)
    with Largest() as largest:
        with kept() as numbers:  # what is made anew in the backward pass is gone with its chunk
            out = layer(z_e)
            loss = out.z_q.square().sum() + out.loss
        loss.backward()
    assert sum(numbers) <= 40 * (NUM + SIZE) * DIM  # a few for each vector
    assert largest.numel <= 2**20  # what is made a few rows at a time
