"""How long does help take, and how long the demo?

Run: python benchmarks/bench_command_line.py [--demo]
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time

from measuring import heading

ROUNDS = 9
WORDS = {
    "python -c pass": ["-c", "pass"],
    "python -c 'import typer'": ["-c", "import typer"],
    "vqkit --help": ["-m", "vqkit", "--help"],
    "vqkit train --help": ["-m", "vqkit", "train", "--help"],
    "vqkit presets": ["-m", "vqkit", "presets"],
    "python -c 'import torch'": ["-c", "import torch"],
}


def seconds(words: list[str], **env: str) -> tuple[float, float]:
    """Wall clock and CPU time of a process with all that it starts."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *words], check=True, capture_output=True, env={**os.environ, **env}
    )
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return wall, cpu


def main() -> None:
    print(heading("How long does help take, and how long the demo?"))
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in WORDS}
    for _ in range(ROUNDS):
        for name, words in WORDS.items():
            times[name].append(seconds(words))
    print(f"seconds, median of {ROUNDS}, in turns      wall    CPU")
    for name, pairs in times.items():
        wall, cpu = (statistics.median(each) for each in zip(*pairs, strict=True))
        print(f"  {name:<34} {wall:6.2f} {cpu:6.2f}")
    if "--demo" in sys.argv:
        with tempfile.TemporaryDirectory() as folder:
            for threads in ("2", "1"):
                out = f"{folder}/{threads}"
                wall, cpu = seconds(["-m", "vqkit", "demo", "-o", out], OMP_NUM_THREADS=threads)
                print(f"  {'vqkit demo, threads: ' + threads:<34} {wall:6.1f} {cpu:6.1f}")


main()
