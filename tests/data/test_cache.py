"""Memory that processes share."""

import multiprocessing

import numpy as np
import pytest

from vqkit.data.cache import SharedCache

SHAPES = [(3, 2, 2), (0,), (5,), (1, 4, 1)]


def contents(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    return rng.integers(0, 256, SHAPES[index], dtype=np.uint8)


def test_what_was_put_is_got_and_nothing_else():
    cache = SharedCache(SHAPES)
    for index in (2, 0, 1):
        assert cache.get(index) is None
        cache.put(index, contents(index))
    assert cache.get(3) is None
    for index in (0, 1, 2):
        assert np.array_equal(cache.get(index), contents(index))


def test_an_array_of_another_shape_is_not_kept():
    cache = SharedCache(SHAPES)
    cache.put(0, np.zeros((3, 2, 3), np.uint8))
    assert cache.get(0) is None


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_what_a_forked_process_puts_its_parent_gets():
    cache = SharedCache(SHAPES)
    child = multiprocessing.get_context("fork").Process(target=cache.put, args=(2, contents(2)))
    child.start()
    child.join()
    assert np.array_equal(cache.get(2), contents(2))
    assert cache.get(0) is None


def test_room_that_is_not_used_takes_no_memory():
    before = resident_bytes()
    cache = SharedCache([(2**20,)] * 1024)
    cache.put(7, np.ones(2**20, np.uint8))
    assert resident_bytes() - before < 2**26
    assert cache.get(8) is None


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
