"""Two processes that talk over gloo, for tests."""

import multiprocessing
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import distributed as dist

TIMEOUT_S = 60
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["torch", "vqkit.quantizers"])  # imported once for all pairs


def run_pair(function: Callable[..., object], folder: Path, *args: object) -> list[Any]:
    """What ``function(*args)`` returns in two processes of one group, rank 0 first.

    Args:
        function: At module level; its result is saved with ``torch.save``.
        folder: Empty, for the store and the results.
    """
    processes = [
        PROCESSES.Process(target=_member, args=(rank, folder, function, args)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    deadline = time.monotonic() + TIMEOUT_S
    for process in processes:
        process.join(max(0, deadline - time.monotonic()))
    codes = [process.exitcode for process in processes]
    for process in processes:
        process.kill()
        process.join()
    assert codes == [0, 0], f"exit codes {codes} (None: still waiting after {TIMEOUT_S} s)"
    return [torch.load(folder / f"{rank}.pt") for rank in range(2)]


def _member(rank: int, folder: Path, function: Callable[..., object], args: tuple) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    try:
        torch.save(function(*args), folder / f"{rank}.pt")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()
