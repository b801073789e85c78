"""How the benchmarks of quantizers measure: in turns, one thread, process CPU time."""

import datetime
import importlib.metadata
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

PACKAGES = ("torch", "vector-quantize-pytorch", "faiss-cpu")
Task = Callable[[], object]


def heading(question: str) -> str:
    """Date, machine, versions and the exact command, under the question."""
    command = " ".join([f"python benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
    capability = torch.backends.cpu.get_cpu_capability()
    load = "/".join(f"{value:.1f}" for value in os.getloadavg())
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    return (
        f"{question}\n{datetime.date.today()}, {command}\n"
        f"{processor()}, {capability}, {os.cpu_count()} cores, 1 thread used, load {load}\n"
        f"python {platform.python_version()}, {versions}\n"
    )


def processor() -> str:
    """The name of the processor."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def cpu_ms(tasks: dict[str, Task], rounds: int, warm_up: int = 2) -> dict[str, list[float]]:
    """Process CPU time of each in turns, so that a slow spell hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in tasks}
    for _ in range(warm_up + rounds):
        for name, task in tasks.items():
            start = time.process_time()
            task()
            times[name].append((time.process_time() - start) * 1e3)
    return {name: values[warm_up:] for name, values in times.items()}


def ratio(over: Sequence[float], under: Sequence[float]) -> str:
    """The median and the quartiles of the ratio within a round."""
    low, middle, high = statistics.quantiles([a / b for a, b in zip(over, under, strict=True)], n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def extra_mb(task: Task) -> float:
    """By how much the peak memory of this process grows while the task runs."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    task()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def in_own_process(*words: object) -> str:
    """What the same script prints when called with other words: a fresh heap for each."""
    command = [sys.executable, sys.argv[0], *map(str, words)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()
