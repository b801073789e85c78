"""A user's own small networks, ragged data and processes, for the tests of training."""

import json
import os
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.data.batch import Batch, collate
from vqkit.data.example import Example
from vqkit.modalities.image import ConvConfig, GaussianObjective, ImageModelConfig
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer, Quantizer, VectorQuantizer
from vqkit.training import TrainConfig

QUIET = {"progress": "none", "device": "cpu"}
PROCESSES = get_context("forkserver")  # each process is ready at once, and has no threads of ours
PROCESSES.set_forkserver_preload(["vqkit.training", "accelerate", "torch._dynamo"])


def quantizer(kind: str, *, size: int = 16, dim: int = 4, **options: Any) -> Quantizer:
    if kind == "ema":
        return EMAVectorQuantizer(dim, size, decay=0.8, **options)
    return VectorQuantizer(dim, size, **options)


def model(kind: str = "ema", *, seed: int = 0, **options: Any) -> VQVAE:
    """Networks that look at each position alone, so that padding cannot reach what is real."""
    torch.manual_seed(seed)
    encoder = nn.Sequential(nn.Conv1d(2, 8, 1), nn.Tanh(), nn.Conv1d(8, 4, 1))
    decoder = nn.Sequential(nn.Conv1d(4, 8, 1), nn.Tanh(), nn.Conv1d(8, 2, 1))
    return VQVAE(encoder, quantizer(kind, **options), decoder, GaussianObjective())


def series(num: int = 96, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> TensorExamples:
    """Time series (2, T) of unequal lengths: batches of them are padded and masked."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(3, 12, (num,), generator=generator).tolist()
    items = [2 * torch.rand(2, n, generator=generator, dtype=torch.float64) - 1 for n in lengths]
    return TensorExamples([item.to(dtype) for item in items])


def config(**keys: Any) -> TrainConfig:
    defaults = {"steps": 20, "batch_size": 8, "warmup_steps": 2, "learning_rate": 0.01}
    return TrainConfig(**(QUIET | defaults | keys))


def lines(folder: Path) -> list[dict]:
    """metrics.jsonl without what depends on the clock."""
    found = []
    for text in (folder / "metrics.jsonl").read_text().splitlines():
        line = json.loads(text)
        found.append({k: v for k, v in line.items() if "per_s" not in k and k != "elapsed_s"})
    return found


def run(function: Callable[..., None], *args: Any) -> int:
    """Calls a function of a test module in a process of its own; its exit code."""
    process = PROCESSES.Process(target=function, args=args)
    process.start()
    process.join(60)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{function.__name__} did not end")
    return process.exitcode


def run_pair(function: Callable[..., None], store: Path, *args: Any) -> list[int]:
    """The same in two processes that are joined; their exit codes."""
    processes = [
        PROCESSES.Process(target=_joined, args=(rank, store, function, args)) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
    for process in processes:
        process.kill()
        process.join()
    return [process.exitcode or 0 for process in processes]


def _joined(rank: int, store: Path, function: Callable[..., None], args: tuple) -> None:
    from torch import distributed as dist

    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2"}
    os.environ |= {"LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    os.environ |= {"MASTER_ADDR": "localhost", "MASTER_PORT": "29500"}
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        function(*args)
    finally:
        dist.destroy_process_group()


def state(module: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal_series(num: int = 96) -> TensorExamples:
    """Time series of one length: nothing is masked."""
    generator = torch.Generator().manual_seed(0)
    return TensorExamples(2 * torch.rand(num, 2, 6, generator=generator, dtype=torch.float64) - 1)


def batch(items: list[Tensor]) -> Batch:
    return collate([Example(item) for item in items], range(len(items)))


def images_model(codebook_size: int = 16) -> VQVAE:
    """A model that a config builds, for grey images of 8 x 8."""
    torch.manual_seed(0)
    network = ConvConfig(hidden=8, residual_hidden=4, num_residual=1, downsampling=2, dim=4)
    quantizer = EMAConfig(codebook_size=codebook_size)
    return VQVAE.from_config(ImageModelConfig(channels=1, network=network, quantizer=quantizer))
