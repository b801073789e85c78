"""What must hold for the search of the nearest entry, however it is done."""

import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from tests.quantizers.watching import Watch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from vqkit.quantizers import search as module
from vqkit.quantizers.search import compiled, flat, nearest, prepared, products

needs_library = pytest.mark.skipif(compiled.library() is None, reason="no compiler was there")
needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="Faiss is used on Linux alone")
Search = Callable[[Tensor, Tensor], Tensor]


WAYS = [
    "products",
    pytest.param("flat, one by one", marks=needs_linux),
    pytest.param("flat, products", marks=needs_linux),
    *(pytest.param(width, marks=needs_library) for width in (4, 8, 16)),
]


@pytest.fixture(params=[*WAYS, pytest.param("prepared", marks=needs_library)])
def search(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Search:
    if request.param == "prepared":
        return lambda z, entries: prepared(entries)(z)
    if not isinstance(request.param, int):
        monkeypatch.setattr(compiled, "library", lambda: None)
    if request.param == "products":
        monkeypatch.setattr(flat, "library", lambda: None)
    elif not isinstance(request.param, int):
        monkeypatch.setattr(flat, "is_possible", lambda _, table: table.dtype == torch.float32)
        cvar, name = with_faiss().cvar, "distance_compute_blas_threshold"
        monkeypatch.setattr(cvar, name, 0 if "products" in request.param else 2**30)
    else:
        monkeypatch.setattr(compiled, "WIDEST", request.param)
    return nearest


def with_faiss() -> ModuleType:
    faiss = flat.library()
    assert faiss is not None, "install faiss-cpu, which the extra dev names"
    return faiss


def by_brute_force(z: Tensor, entries: Tensor) -> Tensor:
    """The lowest index of the least distance in float64. (N, D), (K, D) -> (N,)"""
    rows = [(row - entries.double()).square().sum(-1).argmin() for row in z.double()]
    return torch.stack(rows)


@pytest.mark.parametrize("size", [2, 47, 48, 64, 100, 1000])
@pytest.mark.parametrize("offset", [0.0, 100.0, 1000.0])
def test_the_choice_is_that_of_float64(search: Search, offset: float, size: int):
    torch.manual_seed(0)
    z, entries = torch.randn(2001, 8) + offset, torch.randn(size, 8) + offset
    assert torch.equal(search(z, entries), by_brute_force(z, entries))


@pytest.mark.parametrize("dim", [1, 2, 3, 17, 64, 300])
@pytest.mark.parametrize("num", [1, 3, 255, 257])
def test_any_length_and_any_number(search: Search, dim: int, num: int):
    torch.manual_seed(0)
    z, entries = torch.randn(num, dim), torch.randn(70, dim)
    assert torch.equal(search(z, entries), by_brute_force(z, entries))


def test_entries_closer_together_than_float32_can_score_are_told_apart(search: Search):
    """Far clusters of entries that differ in their last bits, and vectors between two."""
    torch.manual_seed(0)
    centers = 1e4 * torch.randn(10, 16)
    entries = (centers.unsqueeze(1) + 0.01 * torch.randn(10, 20, 16)).flatten(0, 1)
    pairs = entries[torch.randint(len(entries), (2, 500))]
    z = torch.cat([pairs.mean(0), entries, entries + 0.005 * torch.randn(entries.shape)])
    assert torch.equal(search(z, entries), by_brute_force(z, entries))


def test_a_tie_goes_to_the_lowest_index(search: Search):
    torch.manual_seed(0)
    half = torch.randint(-3, 4, (150, 4)).float()
    entries = torch.cat([half, -half, half, -half])
    z = torch.randint(-3, 4, (500, 4)).float()
    assert torch.equal(search(z, entries), by_brute_force(z, entries))


def test_entries_that_are_all_the_same_are_all_the_first(search: Search):
    assert (search(torch.randn(300, 5), torch.ones(200, 5)) == 0).all()


@pytest.mark.parametrize("scale", [1e-36, 1e-30, 1e-22, 1e-19, 1e-17, 1e-10, 1e10, 1e25])
def test_neither_small_nor_large_numbers_change_the_choice(search: Search, scale: float):
    torch.manual_seed(0)
    z, entries = torch.randn(200, 6), torch.randn(100, 6)
    z, entries = scale * z, scale * entries
    assert torch.equal(search(z, entries), by_brute_force(z, entries))


@pytest.mark.parametrize("dim", [1, 2, 7])
def test_squares_that_overflow_do_not_change_the_choice(search: Search, dim: int):
    """Numbers of many sizes, from where their squares fit in float32 to where they end."""
    torch.manual_seed(0)
    for _ in range(100):
        lengths = torch.empty(13, 1).uniform_(-2, 2) + torch.empty(1).uniform_(17, 35)
        z, entries = (torch.randn(13, dim) * 10**lengths).split([8, 5])
        assert torch.equal(search(z, entries), by_brute_force(z, entries))


@pytest.mark.parametrize("near", [2**0.5, 1.0, 0.5, 0.25])
def test_a_choice_at_the_end_of_float32_is_exact(search: Search, near: float):
    """Lengths whose squares just fit, and scores that just do not."""
    torch.manual_seed(0)
    length = near * torch.finfo(torch.float32).max ** 0.5
    for _ in range(100):
        z, entries = F.normalize(torch.randn(2, 9, 2), dim=-1) * length
        entries = torch.cat([entries, entries * (1 + 1e-6 * torch.randn(9, 2))])
        assert torch.equal(search(z, entries), by_brute_force(z, entries))


def test_products_too_small_to_keep_do_not_change_the_choice(search: Search):
    torch.manual_seed(0)
    z, entries = 1e-19 * torch.randn(200, 33), 1e-19 * torch.randn(100, 33)
    expected = by_brute_force(z, entries)
    torch.set_flush_denormal(True)  # where the processor can
    try:
        assert torch.equal(search(z, entries), expected)
    finally:
        torch.set_flush_denormal(False)


def test_equal_distances_are_equal_however_they_are_found(monkeypatch: pytest.MonkeyPatch):
    """Entries whose coordinates are those of one vector in other orders."""
    torch.manual_seed(0)
    entries = torch.stack([torch.linspace(0.1, 3, 33)[torch.randperm(33)] for _ in range(49)])
    z = torch.ones(5, 33)
    first = nearest(z, entries)
    monkeypatch.setattr(compiled, "library", lambda: None)
    assert torch.equal(nearest(z, entries), first)


def test_one_entry_far_from_all_others_does_not_blur_them(search: Search):
    torch.manual_seed(0)
    z, entries = torch.randn(500, 8), torch.randn(300, 8)
    entries[7] = 1e6
    assert torch.equal(search(z, entries), by_brute_force(z, entries))


@pytest.mark.parametrize("size", [10, 100, 1000, 1e4])
def test_one_entry_far_from_all_others_costs_no_time(search: Search, size: float):
    """Not even as much as all vectors in doubt would: 20 and 200 times as long."""
    z, entries = torch.randn(1000, 32), torch.randn(4096, 32)
    outlying = entries.clone()
    outlying[5] *= size
    usual = min(seconds(search, z, entries) for _ in range(5))
    assert min(seconds(search, z, outlying) for _ in range(5)) < 4 * usual
    assert torch.equal(search(z[:100], outlying), by_brute_force(z[:100], outlying))


def seconds(search: Search, z: Tensor, entries: Tensor) -> float:
    """Of the process that a search takes."""
    begin = time.process_time()
    search(z, entries)
    return time.process_time() - begin


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_a_vector_that_is_no_number_gets_index_zero_and_others_their_own(
    search: Search, bad: float
):
    torch.manual_seed(0)
    z, entries = torch.randn(50, 4), torch.randn(100, 4)
    expected = by_brute_force(z, entries)
    z[[0, 11, 49], 2] = bad
    expected[[0, 11, 49]] = 0
    assert torch.equal(search(z, entries), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_vectors_of_half_precision_reach_every_entry_exactly(search: Search, dtype: torch.dtype):
    """An index or a product in bfloat16 could tell only 256 entries apart."""
    torch.manual_seed(0)
    entries = torch.randn(1000, 2)
    z = torch.randn(5000, 2).to(dtype)
    indices = search(z, entries)
    assert torch.equal(indices, by_brute_force(z, entries))
    assert len(indices.unique()) > 700


@pytest.mark.parametrize("shape", [(0, 4), (3, 0, 4), (4,), (2, 3, 5, 4)])
def test_any_shape_is_searched(search: Search, shape: tuple[int, ...]):
    z, entries = torch.randn(shape), torch.randn(100, 4)
    indices = search(z, entries)
    assert indices.shape == shape[:-1]
    if z.numel():
        assert torch.equal(indices.flatten(), by_brute_force(z.view(-1, 4), entries))


def test_how_vectors_and_entries_lie_in_memory_does_not_matter(search: Search):
    torch.manual_seed(0)
    z, entries = torch.randn(4, 500).T, torch.randn(4, 200).T
    assert torch.equal(search(z, entries), by_brute_force(z, entries))
    assert torch.equal(search(z[::2], entries[::3]), by_brute_force(z[::2], entries[::3]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_change_the_choice(search: Search, dtype: torch.dtype):
    torch.manual_seed(0)
    z, entries = torch.randn(1000, 8), torch.randn(500, 8)
    entries[250:] = entries[:250] + 1e-7  # rounding cannot tell them apart, distances decide
    with torch.autocast("cpu", dtype=dtype):
        inside = search(z, entries)
    assert torch.equal(inside, by_brute_force(z, entries))


@pytest.mark.parametrize("size", [1000, 20_000])
def test_memory_does_not_grow_with_vectors_times_entries(search: Search, size: int):
    with Watch() as watch:  # it sees the operator as one step, and so looks inside
        module._search(torch.randn(5000, 4), torch.randn(size, 4))
    assert watch.largest <= 2**20


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match="length 3, the codebook needs 4"):
        nearest(torch.randn(5, 3), torch.randn(10, 4))
    with pytest.raises(ValueError, match="no axis"):
        nearest(torch.tensor(1.0), torch.randn(10, 4))


def test_vectors_elsewhere_than_the_codebook_are_refused():
    with pytest.raises(ValueError, match="z is on meta, the codebook on cpu; move one of them"):
        nearest(torch.randn(5, 4, device="meta"), torch.randn(10, 4))


@pytest.mark.parametrize("search", WAYS, indirect=True)
def test_what_traces_or_transforms_a_program_sees_one_step(search: Search):
    torch.manual_seed(0)
    z, other, entries = torch.randn(20, 4), torch.randn(20, 4), torch.randn(10, 4)

    def error(z: Tensor) -> Tensor:
        return (z - entries[search(z, entries)]).square().sum()

    gradient = torch.func.grad(error)(z)
    assert torch.allclose(gradient, 2 * (z - entries[by_brute_force(z, entries)]))
    traced = make_fx(error)(z)
    assert torch.equal(traced(other), error(other))
    with FakeTensorMode() as mode:
        fake = mode.from_tensor(z)
        assert search(fake, mode.from_tensor(entries)).shape == (20,)


@needs_library
def test_an_interrupt_does_not_free_what_other_threads_read(monkeypatch: pytest.MonkeyPatch):
    """The first part fails at once, while the others wait or search."""
    running, started = [], threading.Event()

    class Slow:
        def __getattr__(self, name: str) -> object:
            return getattr(functions, name)

        def vqkit_nearest(self, *args: object) -> int:
            if threading.current_thread() is threading.main_thread():
                started.wait(10)
                raise KeyboardInterrupt
            running.append(True)
            started.set()
            time.sleep(0.2)
            found = functions.vqkit_nearest(*args)
            running.pop()
            return found

    functions = compiled.library()
    monkeypatch.setattr(compiled, "PRODUCTS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    monkeypatch.setattr(compiled, "library", Slow)
    with pytest.raises(KeyboardInterrupt):
        compiled.search(torch.randn(1000, 8), torch.randn(500, 8))
    assert started.is_set()
    assert not running


def test_where_a_compiler_is_the_search_was_compiled(tmp_path: Path):
    source = Path(compiled.__file__).with_name("nearest.c")
    compiler = shutil.which("cc") or "false"
    words = [compiler, "-O1", "-shared", "-fPIC", "-o", tmp_path / "library.so", source, "-lm"]
    can_compile = subprocess.run(words, capture_output=True, check=False).returncode == 0
    was_compiled = compiled.library() is not None
    assert was_compiled >= can_compile, "install vqkit again, which compiles the search"


def test_vectors_or_entries_of_double_precision_are_searched_in_it():
    torch.manual_seed(0)
    entries = torch.randint(1, 9, (200, 8)).double()
    entries[100:] = entries[:100] + 1e-9
    z = torch.randn(1000, 8, dtype=torch.float64)
    assert torch.equal(nearest(z, entries), by_brute_force(z, entries))
    assert (nearest(z, entries.float()) < 100).all()  # rounded, the later ones are copies


@needs_library
def test_the_compiled_search_is_used_where_it_can_be(monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> Tensor:
        raise AssertionError

    monkeypatch.setattr(products, "search", fail)
    nearest(torch.randn(10, 4), torch.randn(5, 4))
    with pytest.raises(AssertionError):
        nearest(torch.randn(10, 4).double(), torch.randn(5, 4))


@needs_library
@pytest.mark.parametrize("threads", [1, 2, 3, 8])
def test_the_number_of_threads_does_not_matter(monkeypatch: pytest.MonkeyPatch, threads: int):
    monkeypatch.setattr(compiled, "PRODUCTS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    torch.manual_seed(0)
    for num in (0, 1, 5, 1000):
        z, entries = torch.randn(num, 4), torch.randn(100, 4)
        expected = by_brute_force(z, entries) if num else torch.zeros(0).long()
        assert torch.equal(compiled.search(z, entries), expected)


@needs_library
def test_a_forked_process_searches_with_threads_of_its_own(monkeypatch: pytest.MonkeyPatch):
    import multiprocessing

    monkeypatch.setattr(compiled, "PRODUCTS_PER_THREAD", 1)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    z, entries = torch.randn(100, 4), torch.randn(50, 4)
    compiled.search(z, entries)  # starts the threads
    process = multiprocessing.get_context("fork").Process(
        target=partial(compiled.search, z, entries)
    )
    process.start()
    process.join(30)
    assert process.exitcode == 0


@needs_library
def test_what_cannot_be_loaded_is_as_if_it_were_not_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path
):
    (tmp_path / f"{compiled.NAME}{EXTENSION_SUFFIXES[0]}").write_bytes(b"no library")
    monkeypatch.setattr(compiled, "__file__", str(tmp_path / "compiled.py"))
    compiled.library.cache_clear()
    try:
        assert compiled.library() is None
        z, entries = torch.randn(10, 4), torch.randn(5, 4)
        assert torch.equal(nearest(z, entries), by_brute_force(z, entries))
    finally:
        compiled.library.cache_clear()
