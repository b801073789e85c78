"""What a rank asks of the others does not depend on what its batch holds, or they would wait."""

import copy

import pytest
import torch
from tests.quantizers.test_contract import CASES, DIM
from torch import Tensor
from torch import distributed as dist

from vqkit.quantizers import Quantizer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the others, one after another, as rank 0 of two that hold the same."""
    found: list[str] = []

    def all_reduce(x: Tensor) -> None:
        found.append(f"sum of {x.dtype}")
        x.mul_(2)

    def all_gather(parts: list[Tensor], x: Tensor) -> None:
        found.append(f"all {x.dtype}")
        for part in parts:
            part.copy_(x)

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 0)
    monkeypatch.setattr(dist, "all_reduce", all_reduce)
    monkeypatch.setattr(dist, "all_gather", all_gather)
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_rank_without_real_vectors_asks_for_as_much_as_any_other(name: str, asked: list[str]):
    torch.manual_seed(0)
    quantizer = CASES[name].build(DIM)
    quantizer.initialize(torch.randn(500, DIM), seed=0)
    for book in quantizer.codebooks():
        book.unused_for += 10**6  # what a few vectors leave unused is revived
    vectors = torch.randn(5, DIM)
    batches = {
        "real": (vectors, None),
        "padding": (vectors, torch.zeros(5, dtype=torch.bool)),
        "empty": (vectors[:0], None),
    }
    asked_with = {}
    for kind, (z_e, mask) in batches.items():
        asked.clear()
        step(copy.deepcopy(quantizer), z_e, mask)
        asked_with[kind] = list(asked)
    assert asked_with["padding"] == asked_with["real"]
    assert asked_with["empty"] == asked_with["real"]
    assert asked_with["real"] or not quantizer.codebooks()


def step(quantizer: Quantizer, z_e: Tensor, mask: Tensor | None) -> None:
    """One step of training of two micro-batches."""
    quantizer.commit_in_forward = False
    for _ in range(2):
        out = quantizer(z_e.clone().requires_grad_(), mask)
        (out.loss + out.z_q.sum()).backward()
    quantizer.commit()
