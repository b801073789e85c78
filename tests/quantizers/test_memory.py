"""What a training step needs: memory for vectors and for entries, never for all their pairs."""

from typing import Any

import pytest
import torch
from tests.quantizers.watching import Watch, kept_for_backward

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
    revival,
    scores,
    soft,
)
from vqkit.quantizers.search import products

NUM, SIZE, DIM = 8_000, 1_000, 4  # 8 M pairs, and 36,000 numbers in vectors and entries
CHUNK = 2**16
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


@pytest.mark.parametrize("name", KINDS)
def test_a_training_step_needs_memory_for_vectors_and_entries_not_for_their_pairs(
    name: str, monkeypatch: pytest.MonkeyPatch
):
    for module in (products, scores, soft):
        monkeypatch.setattr(module, "SCORES_PER_CHUNK", CHUNK)
    monkeypatch.setattr(revival, "ROWS", CHUNK // revival.MAX_DRAWN)
    kind, options = KINDS[name]
    book = Codebook.from_entries(torch.randn(SIZE, DIM))
    book.unused_for += 10**6  # revival is part of the step
    layer = kind(DIM, SIZE, codebook=book, **options)  # pyright: ignore[reportCallIssue]
    z_e = torch.randn(NUM, DIM, requires_grad=True)
    with Watch() as watch:
        with kept_for_backward() as numbers:
            out = layer(z_e)
            loss = out.z_q.square().sum() + out.loss
        loss.backward()
    few = 40 * (NUM + SIZE) * DIM  # a few for each vector and each entry
    assert sum(numbers) <= few
    assert watch.most <= few + 20 * CHUNK < NUM * SIZE / 2  # and what is made a few rows at a time
    assert watch.largest <= max(CHUNK, NUM * DIM)
