"""What must hold for the search of the nearest entry."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from vqkit.quantizers import search
from vqkit.quantizers.search import nearest


def distances(z: Tensor, entries: Tensor) -> Tensor:
    """Brute force in float64. (N, D), (K, D) -> (N, K)"""
    return (z.double().unsqueeze(1) - entries.double()).norm(dim=-1)


@pytest.mark.parametrize("size", [2, 64, 100, 1000])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_no_entry_is_closer_than_the_chosen_one(offset: float, size: int):
    torch.manual_seed(0)
    z, entries = torch.randn(2000, 8) + offset, torch.randn(size, 8) + offset
    brute = distances(z, entries)
    chosen = brute.gather(1, nearest(z, entries).unsqueeze(1)).squeeze(1)
    assert_close(chosen, brute.amin(1), rtol=0, atol=1e-5)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_only_near_ties_differ_from_the_search_in_float64(offset: float):
    torch.manual_seed(0)
    z, entries = torch.randn(5000, 16) + offset, torch.randn(512, 16) + offset
    brute = distances(z, entries).square()
    differ = nearest(z, entries) != brute.argmin(1)
    two = brute[differ].topk(2, largest=False).values
    assert differ.float().mean() < 1e-3
    assert ((two[:, 1] - two[:, 0]) < 1e-4).all()


def test_vectors_or_entries_of_double_precision_are_searched_in_it():
    torch.manual_seed(0)
    entries = torch.randint(1, 9, (200, 8)).double()
    entries[100:] = entries[:100] + 1e-9
    z = torch.randn(1000, 8, dtype=torch.float64)
    expected = distances(z, entries).argmin(1)
    assert (nearest(z, entries) == expected).float().mean() > 0.999
    assert (nearest(z, entries.float()) < 100).all()  # rounded, the later ones are copies


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_vectors_of_half_precision_reach_every_entry_exactly(dtype: torch.dtype):
    """An index or a product in bfloat16 could tell only 256 entries apart."""
    entries = torch.randn(1000, 2)
    z = torch.randn(5000, 2).to(dtype)
    brute = distances(z, entries)
    indices = nearest(z, entries)
    chosen = brute.gather(1, indices.unsqueeze(1)).squeeze(1)
    assert_close(chosen, brute.amin(1), rtol=0, atol=1e-5)
    assert len(indices.unique()) > 700


def test_a_tie_goes_to_the_lowest_index():
    torch.manual_seed(0)
    half = torch.randint(-3, 4, (50, 4)).float()
    entries = torch.cat([half, -half, half, -half])  # mean 0 and small integers: exact arithmetic
    z = torch.randint(-3, 4, (500, 4)).float()
    brute = (z.double().unsqueeze(1) - entries.double()).square().sum(-1)
    assert torch.equal(nearest(z, entries), brute.argmin(1))


@pytest.mark.parametrize("size", [200, 512])
def test_a_large_codebook_in_parts_gives_what_it_gives_whole(
    monkeypatch: pytest.MonkeyPatch, size: int
):
    torch.manual_seed(0)
    entries = torch.randint(-3, 4, (size, 4)).float()
    entries = torch.cat([entries, -entries])  # exact arithmetic, and ties between the parts
    z = torch.randint(-3, 4, (300, 4)).float()
    whole = nearest(z, entries)
    monkeypatch.setattr(search, "ENTRIES_PER_CHUNK", 128)
    assert torch.equal(nearest(z, entries), whole)
    monkeypatch.setattr(search, "SCORES_PER_CHUNK", 1280)
    assert torch.equal(nearest(z, entries), whole)


def test_a_copy_that_fills_the_last_group_counts_as_the_last_entry(monkeypatch: pytest.MonkeyPatch):
    def last(rows: Tensor, *_: object) -> Tensor:
        return torch.full((len(rows),), 127)

    monkeypatch.setattr(search, "largest_product", last)
    assert nearest(torch.randn(5, 4), torch.randn(100, 4)).tolist() == [99] * 5


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_vector_that_is_no_number_still_gets_an_index_of_the_codebook(bad: float):
    indices = nearest(torch.full((1, 4), bad), torch.randn(100, 4))
    assert 0 <= indices.item() < 100


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4), (4,)])
def test_any_number_of_vectors_is_searched(shape: tuple[int, ...]):
    assert nearest(torch.randn(shape), torch.randn(100, 4)).shape == shape[:-1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_change_the_choice(dtype: torch.dtype):
    torch.manual_seed(0)
    z, entries = torch.randn(1000, 8), torch.randn(500, 8)
    with torch.autocast("cpu", dtype=dtype):
        inside = nearest(z, entries)
    assert torch.equal(inside, nearest(z, entries))


@pytest.mark.parametrize("precision", ["medium", "high"])
def test_the_precision_that_the_user_chose_holds_outside_the_search_only(precision: str):
    class Seen(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if func is torch.ops.aten.mm.out:
                seen.add(torch.backends.mkldnn.matmul.fp32_precision)
            return func(*args, **(kwargs or {}))

    seen: set[str] = set()
    torch.set_float32_matmul_precision(precision)
    try:
        chosen = torch.backends.mkldnn.matmul.fp32_precision
        with Seen():
            nearest(torch.randn(10, 4), torch.randn(5, 4))
        assert seen == {"ieee"}
        assert torch.backends.mkldnn.matmul.fp32_precision == chosen != "ieee"
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


def test_products_on_a_gpu_are_not_rounded_to_tf32():
    torch.set_float32_matmul_precision("high")
    try:
        with search.full_precision("cuda"):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("size", [1000, 20_000])
def test_memory_does_not_grow_with_vectors_times_entries(size: int):
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, list | tuple) else [out]:
                self.numel = max(self.numel, tensor.numel() if isinstance(tensor, Tensor) else 0)
            return out

    with Largest() as largest:
        nearest(torch.randn(5000, 4), torch.randn(size, 4))
    assert largest.numel <= 2**20


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match="length 3, the codebook needs 4"):
        nearest(torch.randn(5, 3), torch.randn(10, 4))
    with pytest.raises(ValueError, match="no axis"):
        nearest(torch.tensor(1.0), torch.randn(10, 4))
