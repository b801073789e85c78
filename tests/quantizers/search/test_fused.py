"""What must hold for the search on a GPU; without one, Triton's interpreter runs its kernels."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vqkit.quantizers.search import compiled, fused, nearest, products
from vqkit.quantizers.search.fused import Device, Tiles

pytest.importorskip("triton", reason="Triton is for Linux")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SMALL = [Tiles(32, 32, 16, 4, 2, lanes) for lanes in (False, True)]

# The interpreter computes in NumPy, which warns where a GPU says nothing.
of_no_numbers = pytest.mark.filterwarnings(
    "ignore:(invalid value|overflow|All-NaN slice) encountered:RuntimeWarning"
)


def found(z: Tensor, entries: Tensor, tiles: Tiles | None = None) -> Tensor:
    return fused.search(z.to(DEVICE), entries.to(DEVICE), tiles).cpu()


def by_brute_force(z: Tensor, entries: Tensor) -> Tensor:
    """The lowest index of the least distance in float64. (N, D), (K, D) -> (N,)"""
    rows = [(row - entries.double()).square().sum(-1).argmin() for row in z.double()]
    return torch.stack(rows)


def close_calls(num: int, dim: int) -> tuple[Tensor, Tensor]:
    """Vectors between entries that lie 1e-6 apart, far from all others."""
    centers = 10 * torch.randn(num, 1, dim)
    entries = (centers + 1e-6 * torch.randn(num, 5, dim)).flatten(0, 1)
    return entries + 1e-6 * torch.randn_like(entries), entries


@pytest.mark.parametrize("offset", [0.0, 1000.0])
@pytest.mark.parametrize(
    ("num", "size", "dim"),
    [(1, 2, 1), (130, 70, 3), (7, 200, 8), (65, 129, 17), (40, 130, 64), (20, 140, 200)],
)
def test_the_choice_is_that_of_float64(num: int, size: int, dim: int, offset: float):
    z, entries = torch.randn(num, dim) + offset, torch.randn(size, dim) + offset
    assert torch.equal(found(z, entries), by_brute_force(z, entries))


@pytest.mark.parametrize("shared", [2**17, 2**18])
@pytest.mark.parametrize("dim", [8, 40, 70])
def test_the_tiles_of_every_device_give_the_same_choice(dim: int, shared: int):
    z, entries = torch.randn(50, dim), torch.randn(150, dim)
    if DEVICE == "cpu" or shared <= Device.of(torch.device("cuda", 0)).shared:
        tiles = Tiles.of(dim, shared)
        assert torch.equal(found(z, entries, tiles), by_brute_force(z, entries))


@pytest.mark.parametrize("tiles", SMALL)
def test_a_tie_goes_to_the_lowest_index_within_tiles_and_across(tiles: Tiles):
    half = torch.randint(-3, 4, (50, 4)).float()
    entries = torch.cat([half, -half, half, -half])
    z = torch.randint(-3, 4, (60, 4)).float()
    assert torch.equal(found(z, entries, tiles), by_brute_force(z, entries))


@pytest.mark.parametrize("dim", [3, 20])
@pytest.mark.parametrize("tiles", SMALL)
def test_entries_closer_together_than_scores_can_tell_are_told_apart(tiles: Tiles, dim: int):
    z, entries = close_calls(10, dim)
    assert torch.equal(found(z, entries, tiles), by_brute_force(z, entries))


@pytest.mark.parametrize("tiles", SMALL)
def test_close_entries_at_one_place_of_two_tiles_are_told_apart(tiles: Tiles):
    entries = torch.randn(tiles.columns, 4)
    z = entries.repeat(5, 1)  # so many that the entries stay in one part
    z += 1e-6 * torch.randn_like(z)
    entries = torch.cat([entries, entries + 1e-6 * torch.randn_like(entries)])
    assert torch.equal(found(z, entries, tiles), by_brute_force(z, entries))


def test_without_the_distances_close_calls_go_wrong(monkeypatch: pytest.MonkeyPatch):
    z, entries = close_calls(10, 8)
    expected = by_brute_force(z, entries)
    assert torch.equal(found(z, entries), expected)
    monkeypatch.setattr(fused, "rescore", lambda *_: None)
    assert (found(z, entries) != expected).sum() > 5


@of_no_numbers
def test_only_close_calls_are_scored_again(monkeypatch: pytest.MonkeyPatch):
    counts = []

    def count(z: Tensor, table: fused.Table, doubts: fused.Doubts, *_: object) -> None:
        counts.append(int(doubts.count))
        listed.update(doubts.rows[: doubts.count].tolist())

    listed: set[int] = set()
    monkeypatch.setattr(fused, "rescore", count)
    entries = torch.randn(100, 8)
    z = torch.cat([entries + 1e-3, (entries[:10] + entries[10:20]) / 2, entries[:1] * torch.nan])
    entries = torch.cat([entries, entries[:3]])
    assert torch.equal(found(z, entries)[3:100], torch.arange(3, 100))
    assert counts == [len(listed)]
    assert {0, 1, 2} <= listed <= {*range(3), *range(100, 110)}


@pytest.mark.parametrize("processors", [1, 3, 50])
def test_into_how_many_parts_the_entries_go_does_not_matter(
    monkeypatch: pytest.MonkeyPatch, processors: int
):
    z, entries = close_calls(30, 4)
    z, entries = torch.cat([z[:30], torch.randn(20, 4)]), torch.cat([entries, entries])
    expected = by_brute_force(z, entries)
    monkeypatch.setattr(Device, "of", lambda _: Device(processors, 2**17))
    for tiles in SMALL:
        assert torch.equal(found(z, entries, tiles), expected)


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e-19, 1e-10, 1e10, 1e19, 1e25])
@of_no_numbers
def test_neither_small_nor_large_numbers_change_the_choice(scale: float):
    z, entries = scale * torch.randn(30, 6), scale * torch.randn(70, 6)
    assert torch.equal(found(z, entries), by_brute_force(z, entries))


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
@of_no_numbers
def test_what_is_no_number_gets_index_zero_and_others_their_own(bad: float):
    z, entries = torch.randn(50, 4), torch.randn(100, 4)
    expected = by_brute_force(z, entries)
    z[[0, 11, 49], 2] = bad
    expected[[0, 11, 49]] = 0
    assert torch.equal(found(z, entries), expected)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
@of_no_numbers
def test_an_entry_that_is_no_number_is_never_chosen(bad: float):
    z, entries = torch.randn(20, 4), torch.randn(70, 4)
    entries[[0, 30]] = bad
    gaps = (z.unsqueeze(1) - entries).double().square().sum(-1).nan_to_num(torch.inf)
    assert torch.equal(found(z, entries), gaps.argmin(1))
    assert (found(z, torch.full_like(entries, bad)) == 0).all()


def test_one_entry_far_from_all_others_does_not_blur_them():
    z, entries = torch.randn(30, 8), torch.randn(90, 8)
    entries[7] = 1e6
    assert torch.equal(found(z, entries), by_brute_force(z, entries))


def test_equal_distances_are_equal_on_every_device():
    """Entries whose coordinates are those of one vector in other orders."""
    entries = torch.stack([torch.linspace(0.1, 3, 33)[torch.randperm(33)] for _ in range(49)])
    z = torch.ones(5, 33)
    assert torch.equal(found(z, entries), nearest(z, entries))


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4), (4,), (2, 3, 4)])
def test_any_shape_is_searched_through_the_front_door(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
):
    monkeypatch.setattr(compiled, "library", lambda: None)
    monkeypatch.setattr(fused, "is_possible", lambda *_: True)
    monkeypatch.setattr(products, "search", None)
    z, entries = torch.randn(shape), torch.randn(100, 4)
    indices = nearest(z.to(DEVICE), entries.to(DEVICE)).cpu()
    assert indices.shape == shape[:-1]
    if z.numel():
        assert torch.equal(indices.flatten(), by_brute_force(z.view(-1, 4), entries))


def test_how_vectors_and_entries_lie_in_memory_does_not_matter():
    z, entries = torch.randn(4, 80).T, torch.randn(4, 90).T
    assert torch.equal(found(z[::2], entries[::3]), by_brute_force(z[::2], entries[::3]))


class Watched(TorchDispatchMode):
    """Sees the bytes of the largest tensor, and what was called."""

    largest, names = 0, frozenset()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.names |= {func.overloadpacket.__name__}
        for tensor in out if isinstance(out, list | tuple) else [out]:
            self.largest = max(self.largest, tensor.nbytes if isinstance(tensor, Tensor) else 0)
        return out


def test_memory_does_not_grow_with_vectors_times_entries_and_nobody_waits():
    z, entries = torch.randn(300, 3, device=DEVICE), torch.randn(1000, 3, device=DEVICE)
    with Watched() as seen:
        fused.search(z, entries)
    assert seen.largest <= 1024 * 16 * 4  # the padded entries; all scores would be 1.2 MB
    assert not seen.names & {"_local_scalar_dense", "nonzero", "masked_select", "is_nonzero"}


def test_the_work_in_doubt_is_shared_by_as_many_programs_whatever_there_is(
    monkeypatch: pytest.MonkeyPatch,
):
    grids = []
    rescore = fused.rescore
    monkeypatch.setattr(fused, "rescore", lambda *args: (grids.append(args[-1]), rescore(*args)))
    for num, size in ((1, 2), (300, 200)):
        found(torch.randn(num, 3), torch.randn(size, 3))
    assert len(set(grids)) == 1


def test_a_compiled_program_searches_so_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(compiled, "library", lambda: None)
    monkeypatch.setattr(fused, "is_possible", lambda *_: True)
    monkeypatch.setattr(products, "search", None)
    z, entries = torch.randn(20, 4), torch.randn(70, 4)
    expected = by_brute_force(z, entries)
    same = torch.compile(nearest, backend="aot_eager", fullgraph=True)
    assert torch.equal(same(z.to(DEVICE), entries.to(DEVICE)).cpu(), expected)


def test_the_fused_search_is_for_float32_on_a_gpu():
    here, double = torch.randn(5, 4), torch.randn(5, 4, dtype=torch.float64, device=DEVICE)
    assert not fused.is_possible(here, here)
    assert not fused.is_possible(double, double)


@pytest.mark.parametrize("missing", ["triton", "compiler"])
def test_without_triton_or_its_compiler_there_are_no_kernels(
    monkeypatch: pytest.MonkeyPatch, missing: str
):
    if missing == "triton":
        monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    else:
        monkeypatch.delenv("CC", raising=False)
        monkeypatch.setattr(fused.shutil, "which", lambda _: None)
    fused.kernels.cache_clear()
    try:
        assert fused.kernels() is None
    finally:
        fused.kernels.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize(("capability", "dim"), [(80, 8), (86, 200), (90, 32), (90, 256)])
def test_the_kernels_compile_for_devices_that_are_not_here(capability: int, dim: int, tmp_path):
    words = [sys.executable, Path(__file__).with_name("compiling.py"), str(capability), str(dim)]
    surroundings = os.environ | {"TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(tmp_path)}
    done = subprocess.run(words, env=surroundings, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "score" in done.stdout


def test_triton_is_imported_only_where_it_is_used():
    program = "import sys, vqkit.quantizers; sys.exit('triton' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
