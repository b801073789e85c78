"""How the benchmarks measure: in turns, one thread, process CPU time."""

import datetime
import importlib.metadata
import multiprocessing
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path

import torch

PACKAGES = ("torch", "vqkit", "vector-quantize-pytorch", "faiss-cpu")
Task = Callable[[], object]


def heading(question: str) -> str:
    """Date, machine, versions and the exact command, under the question."""
    words = [shown(word) for word in sys.argv[1:]]
    command = f"python benchmarks/{Path(sys.argv[0]).name} {shlex.join(words)}".strip()
    threads = f"{torch.get_num_threads()} of {os.cpu_count()} cores used"
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{question}\n{datetime.date.today()}, {command}\n"
        f"{processor()}, {threads}, load {load}\n"
        f"python {platform.python_version()}, {versions}, commit {commit()}\n"
    )


def shown(word: str) -> str:
    """A word of the command without the places of this machine."""
    path = Path(word)
    return "FOLDER" if path.is_dir() else path.name if path.is_file() else word


def processor() -> str:
    """The name of the GPU, or of the processor and what of it torch uses."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.machine()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def commit() -> str:
    """The commit of the code that is measured, with a + where files differ from it."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty=+"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    return done.stdout.strip() or "unknown"


def cpu_ms(tasks: dict[str, Task], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Process CPU time of each in turns, so that a slow spell hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(warm_up + rounds):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            times[name].append((time.process_time() - start) * 1e3)
    return {name: values[warm_up:] for name, values in times.items()}


def cpu_ms_apart(
    makers: dict[str, Callable[[], Task]], rounds: int, steps: int
) -> dict[str, list[float]]:
    """Process CPU time per step of tasks that live in processes of their own, in turns.

    Each has its own heap, as in a training run, and a turn is several steps in a row; while one
    works the others wait.

    Args:
        makers: Functions of the main module that make each task, by name.
        rounds: Number of turns of each.
        steps: Number of steps in a turn.
    """
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name, make in makers.items():
        pipes[name], theirs = context.Pipe()
        processes.append(context.Process(target=_serve, args=(make, theirs)))
        processes[-1].start()
    times: dict[str, list[float]] = {name: [] for name in makers}
    for _ in range(rounds + 1):
        for name, pipe in pipes.items():
            pipe.send(steps)
            times[name].append(pipe.recv())
    for pipe, process in zip(pipes.values(), processes, strict=True):
        pipe.send(0)
        process.join()
    return {name: values[1:] for name, values in times.items()}  # the first warms up


def _serve(make: Callable[[], Task], pipe: Connection) -> None:
    """Runs as many steps as asked and answers the milliseconds of each, until asked for none."""
    torch.set_num_threads(1)
    task = make()
    while steps := pipe.recv():
        start = time.process_time()
        for _ in range(steps):
            task()
        pipe.send((time.process_time() - start) * 1e3 / steps)


def extra_mb(task: Task) -> float:
    """By how much the peak memory of this process grows while the task runs; Linux alone."""
    before = peak_mb()
    task()
    return peak_mb() - before


def peak_mb() -> float:
    """The most memory that this process ever held, without that of its parent."""
    status = Path("/proc/self/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def in_own_process(*words: object) -> str:
    """What the same script prints when called with other words: a fresh heap for each."""
    command = [sys.executable, sys.argv[0], *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()
