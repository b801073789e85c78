"""What must hold for the search by Faiss beside what every search keeps, see test_search."""

import builtins
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from vqkit.quantizers.search import compiled, flat, nearest, products

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Faiss is used on Linux alone")
NUM, SIZE, DIM = 2100, 5000, 64  # where it is used


@pytest.fixture(autouse=True)
def _not_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "library", lambda: None)


def fail(*_: object) -> Tensor:
    raise AssertionError


def clustered(offset: float) -> tuple[Tensor, Tensor]:
    """Clusters of entries too close for float32 to score, some of them twice, and their middles."""
    centers = 100 * torch.randn(SIZE // 10, DIM) + offset
    entries = (centers.unsqueeze(1) + 0.01 * torch.randn(SIZE // 10, 10, DIM)).flatten(0, 1)
    entries[-500:] = entries[:500]
    pairs = entries[torch.randint(SIZE, (2, NUM))]
    return torch.where(torch.rand(NUM, 1) < 0.5, pairs.mean(0), pairs[0]), entries


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize("kind", ["random", "clustered"])
def test_a_large_codebook_is_searched_by_faiss_with_the_indices_of_products_and_of_float64(
    monkeypatch: pytest.MonkeyPatch, kind: str, offset: float
):
    z, entries = torch.randn(NUM, DIM) + offset, torch.randn(SIZE, DIM) + offset
    if kind == "clustered":
        z, entries = clustered(offset)
    z[7, 3], z[8, 0] = torch.nan, torch.inf
    expected = products.search(z, entries)
    monkeypatch.setattr(products, "search", fail)
    found = nearest(z, entries)
    assert torch.equal(found, expected)
    few = torch.randperm(NUM)[:100]
    few = few[(few != 7) & (few != 8)]
    exact = [(row - entries.double()).square().sum(-1).argmin() for row in z[few].double()]
    assert torch.equal(found[few], torch.stack(exact))


@pytest.mark.parametrize(("num", "size", "dim"), [(NUM, 4096, 64), (NUM, SIZE, 63), (1, SIZE, 64)])
def test_what_torch_searches_as_fast_is_left_to_it(
    monkeypatch: pytest.MonkeyPatch, num: int, size: int, dim: int
):
    monkeypatch.setattr(flat, "search", fail)
    nearest(torch.randn(num, dim), torch.randn(size, dim))
    nearest(torch.randn(NUM, DIM).double(), torch.randn(SIZE, DIM))


def test_chunks_of_any_number_of_vectors_give_the_same(monkeypatch: pytest.MonkeyPatch):
    z, entries = torch.randint(-3, 4, (301, 4)).float(), torch.randint(-3, 4, (90, 4)).float()
    whole = flat.search(z, entries)
    for numbers in (5, 64, 1000):
        monkeypatch.setattr(flat, "NUMBERS_PER_CHUNK", numbers)
        assert torch.equal(flat.search(z, entries), whole)


def test_it_uses_as_many_threads_as_torch_and_leaves_what_was_chosen(
    monkeypatch: pytest.MonkeyPatch,
):
    faiss = flat.library()
    assert faiss is not None
    seen, knn = [], faiss.knn

    def spy(*arguments: object) -> object:
        seen.append(faiss.omp_get_max_threads())
        return knn(*arguments)

    monkeypatch.setattr(faiss, "knn", spy)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    before = faiss.omp_get_max_threads()
    entries_at_a_time = faiss.cvar.distance_compute_blas_database_bs
    flat.search(torch.randn(10, 4), torch.randn(20, 4))
    assert seen == [3]
    assert faiss.omp_get_max_threads() == before
    assert faiss.cvar.distance_compute_blas_database_bs == entries_at_a_time


def test_where_faiss_is_not_installed_torch_searches(monkeypatch: pytest.MonkeyPatch):
    load = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "faiss":
            raise ImportError(name)
        return load(name, *rest)  # pyright: ignore

    z, entries = torch.randn(NUM, DIM), torch.randn(SIZE, DIM)
    expected = flat.search(z, entries)
    flat.library.cache_clear()
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(flat, "search", fail)
    try:
        assert torch.equal(nearest(z, entries), expected)
    finally:
        flat.library.cache_clear()


def test_a_search_by_faiss_needs_at_most_20_megabytes():
    code = """if True:
        import torch
        from tests.quantizers.watching import peak_mb
        from vqkit.quantizers.search import flat
        z, entries = torch.randn(16_384, 64), torch.randn(8_192, 64)
        flat.search(z[:2100], entries[:100])
        before = peak_mb()
        flat.search(z, entries)
        print(peak_mb() - before)
    """
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(done.stdout) <= 20
