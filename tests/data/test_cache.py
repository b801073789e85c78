"""Memory that processes share."""

import multiprocessing

import numpy as np
import pytest

from vqkit.data.cache import SharedCache

SHAPES = [(3, 2, 2), (0,), (5,), (1, 4, 1), (), (1, 2, 1, 2)]


def contents(index: int) -> np.ndarray:
    rng = np.random.default_rng(index)
    return np.asarray(rng.integers(0, 256, SHAPES[index], dtype=np.uint8))


def test_what_was_put_is_got_and_nothing_else():
    cache = SharedCache(len(SHAPES), 100)
    for index in (2, 0, 1, 4, 5):
        assert cache.get(index) is None
        cache.put(index, contents(index))
    assert cache.get(3) is None
    for index in (0, 1, 2, 4, 5):
        found = cache.get(index)
        assert found is not None
        assert found.shape == SHAPES[index]
        assert np.array_equal(found, contents(index))


def test_what_has_no_room_is_not_kept_but_smaller_things_are():
    cache = SharedCache(3, 10)
    for index, size in enumerate((8, 3, 2)):
        cache.put(index, np.full(size, index, np.uint8))
    assert [cache.get(index) is None for index in range(3)] == [False, True, False]
    assert np.array_equal(cache.get(2), [2, 2])


def test_what_is_put_twice_takes_room_once():
    cache = SharedCache(2, 10)
    for _ in range(5):
        cache.put(0, np.ones(5, np.uint8))
    cache.put(1, np.ones(5, np.uint8))
    assert cache.get(1) is not None


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="needs fork")
def test_what_forked_processes_put_their_parent_gets():
    cache = SharedCache(100, 100 * 64)

    def fill(first: int) -> None:
        for index in range(first, 100, 3):
            cache.put(index, np.full(64, index, np.uint8))

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=fill, args=(first,)) for first in (0, 1, 0)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    for index in range(100):
        found = cache.get(index)
        assert (found is None) == (index % 3 == 2)
        assert found is None or (found == index).all()


def test_room_that_is_not_used_takes_no_memory():
    before = resident_bytes()
    cache = SharedCache(10**6, 2**30)
    cache.put(7, np.ones(2**20, np.uint8))
    assert resident_bytes() - before < 2**26
    assert cache.get(8) is None


def resident_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096
