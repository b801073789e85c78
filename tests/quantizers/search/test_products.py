"""What must hold for the search by matrix products."""

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from vqkit.quantizers.search import products
from vqkit.quantizers.search.products import GROUP, search, two_largest


@pytest.mark.parametrize("size", [200, 512])
def test_a_large_codebook_in_parts_gives_what_it_gives_whole(
    monkeypatch: pytest.MonkeyPatch, size: int
):
    torch.manual_seed(0)
    entries = torch.randint(-3, 4, (size, 4)).float()
    entries = torch.cat([entries, -entries])  # exact arithmetic, and ties between the parts
    z = torch.randint(-3, 4, (300, 4)).float()
    whole = search(z, entries)
    monkeypatch.setattr(products, "ENTRIES_PER_CHUNK", 128)
    assert torch.equal(search(z, entries), whole)
    monkeypatch.setattr(products, "SCORES_PER_CHUNK", 1280)
    assert torch.equal(search(z, entries), whole)


@pytest.mark.parametrize("num_groups", [1, 2, 7])
def test_the_two_largest_are_those_of_a_sort(num_groups: int):
    torch.manual_seed(0)
    scores = torch.randint(0, 100, (500, num_groups * GROUP)).float()  # with ties
    sorted_ = scores.sort(dim=-1, descending=True, stable=True)
    best = two_largest(scores.clone())
    assert torch.equal(best.first, sorted_.values[:, 0])
    assert torch.equal(best.second, sorted_.values[:, 1])
    assert torch.equal(best.index, sorted_.indices[:, 0])


def test_the_two_largest_of_two_parts_are_those_of_both():
    torch.manual_seed(0)
    scores = torch.randint(0, 100, (500, 3 * GROUP)).float()
    whole = two_largest(scores.clone())
    parts = [two_largest(part.contiguous()) for part in scores.split([GROUP, 2 * GROUP], 1)]
    joined = parts[0].merged(parts[1], GROUP)
    assert torch.equal(joined.first, whole.first)
    assert torch.equal(joined.second, whole.second)
    assert torch.equal(joined.index, whole.index)


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
            search(torch.randn(10, 4), torch.randn(5, 4))
        assert seen == {"ieee"}
        assert torch.backends.mkldnn.matmul.fp32_precision == chosen != "ieee"
        assert torch.get_float32_matmul_precision() == precision
    finally:
        torch.set_float32_matmul_precision("highest")


def test_products_on_a_gpu_are_not_rounded_to_tf32():
    torch.set_float32_matmul_precision("high")
    try:
        with products.full_precision("cuda"):
            assert torch.backends.cuda.matmul.fp32_precision == "ieee"
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
    finally:
        torch.set_float32_matmul_precision("highest")
