"""Does reading images keep up with training on them?

A step of the training engine on batches of the real reader against the same step on one batch that
is there already. CIFAR shapes and the network of the cifar10 preset.

Run: python benchmarks/bench_loader.py [PARQUET_FILE_OR_FOLDER] [--steps 40] [--rounds 7]
Without data, 2,000 PNG files are made in a temporary folder.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from measuring import heading
from PIL import Image

from vqkit.autoencoder import VQVAE
from vqkit.data import Batch, Loader, StatelessSampler
from vqkit.modalities.image import ImageModelConfig
from vqkit.modalities.image.data import ImageDataConfig, ImageExamples, open_images
from vqkit.training.autoencoder import AutoencoderTask
from vqkit.training.config import TrainConfig
from vqkit.training.loop import Trainer
from vqkit.training.runtime import open_runtime

BATCH, SIZE = 128, 32
WARM_UP = 3  # steps before the clock starts

Batches = Iterator[list[Batch]]


@dataclass(frozen=True, slots=True)
class Reader:
    """One way to get at batches."""

    name: str
    examples: ImageExamples | None = None  # None: the same batch again and again
    num_workers: int = 0

    @contextmanager
    def open(self, fixed: list[Batch], first: int = 0) -> Iterator[Batches]:
        """Its batches from a step on."""
        if self.examples is None:
            yield repeat(fixed)
            return
        sampler = StatelessSampler(len(self.examples), BATCH, seed=0)
        last = first + 10**6
        options = {"first_step": first, "last_step": last, "num_workers": self.num_workers}
        with Loader(self.examples, sampler, **options) as loader:
            yield iter(loader)


def make_images(folder: Path, count: int = 2000) -> Path:
    """PNG files with smooth colours and some noise, about as long as those of photographs."""
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        coarse = torch.randn(1, 3, 8, 8, generator=generator)
        smooth = F.interpolate(coarse, size=SIZE, mode="bicubic")[0].permute(1, 2, 0) * 64 + 128
        noisy = smooth + 4 * torch.randn(SIZE, SIZE, 3, generator=generator)
        pixels = noisy.round().clamp(0, 255).numpy().astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:04d}.png")
    return folder


@contextmanager
def opened(data: str | None) -> Iterator[tuple[ImageExamples, ImageExamples]]:
    """Images that are kept in memory once decoded, and the same decoded anew each time."""
    with tempfile.TemporaryDirectory() as folder:
        path = data or str(make_images(Path(folder)))
        config = ImageDataConfig(path=path, size=SIZE, crop="random", flip=True)
        kept = open_images(config).train
        yield kept, ImageExamples(kept.source, replace(config, cache_mb=0), augment=True)


@contextmanager
def training(fixed: list[Batch]) -> Iterator[Trainer]:
    """The engine that trains the network of the cifar10 preset."""
    config = TrainConfig(batch_size=BATCH, progress="none")
    torch.manual_seed(0)
    task = AutoencoderTask(VQVAE.from_config(ImageModelConfig()))
    task.initialize(fixed, seed=0)
    with open_runtime(config, None) as runtime, task.attached(config):
        task.to(runtime.device)
        yield Trainer(task, config, runtime)


def by_steps(
    trainer: Trainer, readers: Sequence[Reader], fixed: list[Batch], steps: int
) -> dict[str, list[float]]:
    """Process CPU ms of reading and training, the readers taking turns after each step."""
    times: dict[str, list[float]] = {reader.name: [] for reader in readers}
    with ExitStack() as stack:
        sources = {r.name: stack.enter_context(r.open(fixed)) for r in readers}
        for step in range(steps + WARM_UP):
            for name, batches in sources.items():
                start = time.process_time()
                trainer.step(step, next(batches))
                times[name].append((time.process_time() - start) * 1e3)
    return {name: values[WARM_UP:] for name, values in times.items()}


def by_rounds(
    trainer: Trainer, readers: Sequence[Reader], fixed: list[Batch], rounds: int, steps: int
) -> dict[str, list[float]]:
    """Wall ms of a step, the readers taking turns of several steps, each with its own workers."""
    times: dict[str, list[float]] = {reader.name: [] for reader in readers}
    for turn in range(rounds):
        for reader in readers:
            with reader.open(fixed, turn * steps) as batches:
                for step in range(WARM_UP):
                    trainer.step(step, next(batches))
                synchronize()
                start = time.perf_counter()
                for step in range(steps):
                    trainer.step(step, next(batches))
                synchronize()
                times[reader.name].append((time.perf_counter() - start) * 1e3 / steps)
    return times


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def show(title: str, times: dict[str, list[float]]) -> None:
    print(title)
    base, *_ = times.values()
    for name, own in times.items():
        ratios = [x / y for x, y in zip(base, own, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(
            f"    {name:<24} {statistics.median(own):7.1f} ms  "
            f"{middle:.3f} ({low:.3f} to {high:.3f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", nargs="?")
    parser.add_argument("--steps", type=int, default=40, help="steps on the CPU clock")
    parser.add_argument("--rounds", type=int, default=7, help="rounds on the wall clock; 0: none")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    print(heading("Does reading images keep up with training on them?"))
    data = Path(args.data).name if args.data else "2,000 PNG files"
    print(f"{data}: batches of {BATCH} x 3 x {SIZE} x {SIZE}, random crop and flip")
    print("ms of a whole training step, median; throughput over that on one batch read before,")
    print("within a round, median (quartiles); target at least 0.95")
    with opened(args.data) as (kept, anew):
        alone = [
            Reader("one batch, read before"),
            Reader("in memory", kept),
            Reader("decoded anew", anew),
        ]
        many = [
            alone[0],
            Reader("in memory", kept, args.workers),
            Reader("decoded anew", anew, args.workers),
        ]
        with alone[1].open([]) as batches:
            fixed = next(batches)
        with training(fixed) as trainer:
            show("process CPU time, no worker:", by_steps(trainer, alone, fixed, args.steps))
            if args.rounds:
                times = by_rounds(trainer, many, fixed, args.rounds, 8)
                show(f"wall time, {args.workers} worker(s):", times)


if __name__ == "__main__":
    main()
