"""Batches in an order that does not depend on how they are read."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable

import pytest
import torch
from torch.testing import assert_close

from vqkit.data import Batch, Example, Loader, StatelessSampler, TensorExamples, in_order


class Numbers:
    """Item i is the vector (i, noise), the noise a function of (i, seed)."""

    def __init__(self, count: int = 10) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def example(self, index: int, seed: int | None = None) -> Example:
        noise = 0 if seed is None else seed % 1000 + index
        return Example(torch.tensor([index, noise]), label=index % 3)


class Broken(Numbers):
    """Item 7 raises an error."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error

    def example(self, index: int, seed: int | None = None) -> Example:
        if index == 7:
            raise self.error
        return super().example(index, seed)

    def describe(self, index: int) -> str:
        return f"file-{index}.png"


class Deadly(Numbers):
    """Item 7 kills the process that reads it, unless that is the first."""

    def __init__(self) -> None:
        super().__init__()
        self.parent = os.getpid()

    def example(self, index: int, seed: int | None = None) -> Example:
        if index == 7 and os.getpid() != self.parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().example(index, seed)


def steps(num_workers: int, *, first: int = 0, last: int = 6, examples=None) -> list[list[Batch]]:
    examples = examples or Numbers()
    sampler = StatelessSampler(len(examples), 6, seed=3, num_micro_batches=2)
    with Loader(
        examples, sampler, first_step=first, last_step=last, num_workers=num_workers
    ) as loader:
        assert len(loader) == last - first
        return list(loader)


def contents(batches: Iterable[list[Batch]]) -> list[list[tuple]]:
    return [[(b.x.tolist(), b.labels.tolist(), b.positions.tolist()) for b in s] for s in batches]


def test_no_process_is_left():
    steps(2)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("num_workers", [1, 2, 3])
def test_every_number_of_workers_gives_the_same_batches_in_the_same_order(num_workers: int):
    assert contents(steps(num_workers)) == contents(steps(0))


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_that_starts_late_gives_what_the_whole_run_gives_there(num_workers: int):
    assert contents(steps(num_workers, first=4)) == contents(steps(0))[4:]


def test_what_an_item_becomes_depends_on_seed_step_and_position_and_not_on_ranks():
    """Two processes of one micro-batch against one process of two."""
    examples = Numbers()
    ranks = [
        Loader(examples, StatelessSampler(10, 6, seed=3, rank=rank, world_size=2), last_step=5)
        for rank in range(2)
    ]
    joined = [[first[0], second[0]] for first, second in zip(*ranks, strict=True)]
    assert contents(joined) == contents(steps(0, last=5))


def test_a_late_start_reads_no_earlier_item():
    class Counting(Numbers):
        read = 0

        def example(self, index: int, seed: int | None = None) -> Example:
            Counting.read += 1
            return super().example(index, seed)

    steps(0, first=10**6, last=10**6 + 1, examples=Counting())
    assert Counting.read == 6


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize(
    ("error", "reason"),
    [(ValueError("is cut"), "is cut"), (KeyError("pixels"), "KeyError: 'pixels'")],
)
def test_an_item_that_cannot_be_read_is_one_line_that_names_it(
    num_workers: int, error: Exception, reason: str
):
    with pytest.raises(ValueError, match="item 7") as caught:
        steps(num_workers, examples=Broken(error))
    assert str(caught.value) == f"item 7 (file-7.png): {reason}"
    assert not multiprocessing.active_children()
    foreseen = isinstance(error, ValueError)
    assert ("Traceback" in "".join(getattr(caught.value, "__notes__", []))) is not foreseen


def test_items_that_cannot_be_joined_are_one_line_too():
    examples = TensorExamples([torch.zeros(1), torch.zeros(1, 1)])
    with pytest.raises(ValueError, match=r"the batch with item 0: .* make them alike"):
        list(in_order(examples, 2))


def test_the_death_of_a_child_is_handled_as_before():
    seen: list[int] = []
    before = signal.signal(signal.SIGCHLD, lambda number, frame: seen.append(number))
    try:
        steps(1)
        assert seen
    finally:
        signal.signal(signal.SIGCHLD, before)


@pytest.mark.slow
def test_a_killed_worker_is_one_line_with_a_way_out():
    with pytest.raises(OSError, match=r"was killed .*num_workers") as caught:
        steps(2, examples=Deadly())
    assert "\n" not in str(caught.value)
    assert not multiprocessing.active_children()


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32])
def test_large_and_small_batches_come_through(dtype: torch.dtype):
    items = [torch.arange(size).to(dtype) for size in (3, 5, 2**20 + 1, 2)]
    (small,) = in_order(TensorExamples(items), 2, indices=[0, 1], num_workers=1)
    (large,) = in_order(TensorExamples(items), 2, indices=[2, 3], num_workers=1)
    for batch, first, second in ((small, 0, 1), (large, 2, 3)):
        assert batch.mask is not None
        assert torch.equal(batch.x[0][batch.mask[0]], items[first])
        assert torch.equal(batch.x[1][batch.mask[1]], items[second])
        assert batch.positions.tolist() == [first, second]


def test_leaving_early_ends_the_workers():
    sampler = StatelessSampler(10, 2, seed=0)
    with Loader(Numbers(), sampler, last_step=10**6, num_workers=2) as loader:
        for batches in loader:
            assert len(batches[0]) == 2
            break
    assert not multiprocessing.active_children()


def test_a_closed_loader_says_so_and_can_be_used_again():
    loader = Loader(Numbers(), StatelessSampler(10, 2, seed=0), last_step=100, num_workers=1)
    batches = iter(loader)
    first = next(batches)
    loader.close()
    with pytest.raises(ValueError, match="loader was closed"):
        for _ in batches:
            pass
    again = iter(loader)
    assert contents([next(again)]) == contents([first])
    loader.close()
    assert not multiprocessing.active_children()


def test_the_global_random_numbers_do_not_move():
    before = torch.get_rng_state()
    steps(2)
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_outlive_the_signals_that_end_a_run():
    sampler = StatelessSampler(10, 2, seed=0)
    with Loader(Numbers(), sampler, last_step=50, num_workers=1) as loader:
        for step, _ in enumerate(loader):
            if step == 0:
                (worker,) = multiprocessing.active_children()
                assert worker.pid is not None
                os.kill(worker.pid, signal.SIGINT)
                os.kill(worker.pid, signal.SIGTERM)
        assert step == 49


@pytest.mark.parametrize("num_workers", [0, 2])
def test_reading_in_order_gives_every_item_once_without_augmentation(num_workers: int):
    batches = list(in_order(Numbers(), 4, num_workers=num_workers))
    assert [len(batch) for batch in batches] == [4, 4, 2]
    assert_close(torch.cat([b.x for b in batches]), torch.tensor([[i, 0] for i in range(10)]))
    assert torch.cat([b.positions for b in batches]).tolist() == list(range(10))


def test_reading_chosen_items_keeps_their_order_and_numbers():
    batches = list(in_order(Numbers(), 2, indices=[9, 0, 4]))
    assert [batch.positions.tolist() for batch in batches] == [[9, 0], [4]]
    assert [batch.x[:, 0].tolist() for batch in batches] == [[9, 0], [4]]


def test_no_steps_give_no_batches():
    assert steps(2, first=3, last=3) == []
    assert list(in_order(Numbers(), 2, indices=[])) == []


def test_impossible_numbers_are_refused():
    sampler = StatelessSampler(10, 2, seed=0)
    with pytest.raises(ValueError, match="sampler is for 10 examples, there are 4"):
        Loader(Numbers(4), sampler, last_step=1)
    with pytest.raises(ValueError, match="first_step is 2, last_step 1"):
        Loader(Numbers(), sampler, first_step=2, last_step=1)
    with pytest.raises(ValueError, match="num_workers is -1"):
        Loader(Numbers(), sampler, last_step=1, num_workers=-1)
    with pytest.raises(ValueError, match="batch_size is 0"):
        in_order(Numbers(), 0)


@pytest.mark.slow
def test_workers_that_are_not_forked_give_the_same_batches(monkeypatch: pytest.MonkeyPatch):
    expected = [batch.x for batch in in_order(TensorExamples(torch.arange(10)), 3)]
    spawn = multiprocessing.get_context("spawn")
    monkeypatch.setattr("vqkit.data.workers.CONTEXT", spawn)
    found = [b.x for b in in_order(TensorExamples(torch.arange(10)), 3, num_workers=2)]
    assert_close(found, expected)
    assert not multiprocessing.active_children()


SCRIPT = """
import sys, torch
from vqkit.data import *
sampler = StatelessSampler(100, 10, seed=0)
loader = iter(Loader(TensorExamples(torch.zeros(100, 3)), sampler, last_step=10**9, num_workers=2))
try:
    for step, _ in enumerate(loader):
        if step == 3:
            print("ready", flush=True)
except KeyboardInterrupt:
    print("stopped", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("how", ["Ctrl-C", "exit", "kill -9"])
def test_however_a_run_ends_its_workers_end_too(how: str):
    script = (
        SCRIPT.replace('print("ready", flush=True)', "sys.exit(5)") if how == "exit" else SCRIPT
    )
    run = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        text=True,
    )
    assert run.stdout is not None
    if how != "exit":
        assert run.stdout.readline() == "ready\n"
        if how == "Ctrl-C":
            os.killpg(run.pid, signal.SIGINT)  # as a terminal does: all processes get it
        else:
            run.kill()
    out, err = run.communicate(timeout=30)
    assert (out, err) == ("stopped\n" if how == "Ctrl-C" else "", "")
    assert run.returncode == {"Ctrl-C": 0, "exit": 5, "kill -9": -signal.SIGKILL}[how]
    for _ in range(100):  # torch looks every five seconds whether the parent is still there
        try:
            os.killpg(run.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.2)
    pytest.fail("a worker is still there")
