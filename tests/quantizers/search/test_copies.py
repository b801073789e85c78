"""What must hold for entries that are copies of others."""

import time

import pytest
import torch

from vqkit.quantizers.search import compiled, copies, flat, nearest, products
from vqkit.quantizers.search.copies import are_copies


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_copies_are_those_that_equal_an_entry_before_them(dtype: torch.dtype):
    entries = torch.randint(0, 2, (300, 6)).to(dtype)
    expected = (entries.unsqueeze(0) == entries.unsqueeze(1)).all(-1).tril(-1).any(1)
    assert 0 < expected.sum() < 300
    assert torch.equal(are_copies(entries), expected)
    assert torch.equal(are_copies(entries.T.contiguous().T), expected)


def test_entries_of_one_hash_are_not_taken_for_copies(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(copies.random, "hash_tensor", torch.zeros_like)
    entries = torch.cat([torch.eye(7), torch.eye(7)[6:]])
    assert are_copies(entries).tolist() == [False] * 7 + [True]


@pytest.mark.parametrize("way", ["compiled", "flat", "products"])
def test_many_copies_do_not_slow_a_search(monkeypatch: pytest.MonkeyPatch, way: str):
    """Entries that all began at one place, as those of late stages whose residual was 0."""
    if way != "compiled":
        monkeypatch.setattr(compiled, "library", lambda: None)
    if way == "flat":
        monkeypatch.setattr(flat, "is_possible", lambda *_: flat.library() is not None)
    entries, z = torch.randn(1024, 64), 0.1 * torch.randn(2048, 64)
    alike = entries.clone()
    alike[200:] = 0

    def least_ms(table: torch.Tensor) -> float:
        times = []
        for _ in range(5):
            start = time.process_time()
            found = nearest(z, table)
            times.append(time.process_time() - start)
        assert (found <= 200).all() or table is entries
        return min(times)

    least_ms(entries)
    assert least_ms(alike) < 3 * least_ms(entries)


def test_for_few_vectors_nobody_looks_for_copies(monkeypatch: pytest.MonkeyPatch):
    def fail(_: torch.Tensor) -> torch.Tensor:
        raise AssertionError

    monkeypatch.setattr(products, "are_copies", fail)
    products.search(torch.randn(20, 4), torch.randn(100, 4))
    with pytest.raises(AssertionError):
        products.search(torch.randn(25, 4), torch.randn(100, 4))
