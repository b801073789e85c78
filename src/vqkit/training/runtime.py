"""Devices, processes and precision, by accelerate: all that the loop knows of the machine."""

import atexit
import ctypes
import gc
import os
import platform
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch
from pydantic import TypeAdapter
from torch import Tensor, nn
from torch import distributed as dist

from vqkit import distributed
from vqkit.data.batch import Batch
from vqkit.training.config import TrainConfig

T = TypeVar("T")
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1  # malloc.h of glibc


class Runtime:
    """One process of a training run.

    Args:
        accelerator: An ``accelerate.Accelerator`` of this run.
        precision: Precision of the networks.
    """

    def __init__(self, accelerator: Any, precision: torch.dtype) -> None:
        self.accelerator = accelerator
        self.precision = precision
        self.device: torch.device = accelerator.device

    @property
    def world_size(self) -> int:
        """Number of processes."""
        return distributed.world_size()

    def seed(self, seed: int) -> None:
        """Seeds torch's global generators, for networks that draw from them."""
        torch.default_generator.manual_seed(seed)
        if self.device.type == "cuda":
            torch.cuda.manual_seed(seed)

    def fetch(self, batch: Batch) -> Batch:
        """The batch on the device; a GPU fetches it while the CPU goes on."""
        if self.device.type != "cuda":
            return batch.to(self.device)
        return batch.pin_memory().to(self.device, non_blocking=True)

    def prepare(self, module: nn.Module) -> nn.Module:
        """The module on the device, under autocast, its gradients averaged over processes."""
        with warnings.catch_warnings():
            # Its successor is not in torch 2.11.
            warnings.filterwarnings("ignore", "`broadcast_buffers` is deprecated", FutureWarning)
            return self.accelerator.prepare_model(module)

    def without_sync(self, module: nn.Module) -> AbstractContextManager[None]:
        """A context in which gradients stay on their process: all micro-batches but the last."""
        return self.accelerator.no_sync(module)

    def track(self, values: dict[str, float], step: int) -> None:
        """Sends numbers to the trackers, if there are any."""
        if self.accelerator.trackers:
            self.accelerator.log(values, step=step)


@contextmanager
def open_runtime(config: TrainConfig, folder: Path | None) -> Iterator[Runtime]:
    """The machine as the config wants it; what is global is as before afterwards.

    Under ``torchrun`` or ``accelerate launch`` this joins the other processes.

    Args:
        config: Of the run.
        folder: Where trackers that need a folder write.

    Raises:
        ValueError: If a tracker is not known or not installed.
    """
    gpu = on_gpu(config)
    if not gpu:
        keep_freed_memory()
    check_trackers(config.trackers, folder)
    precision = choose_precision(config)
    join_processes(cpu=not gpu)
    with accelerator_state(), deterministic(config.deterministic), kept_generator(gpu):
        accelerator = _accelerator(config, precision, folder)
        if config.trackers:
            values = TypeAdapter(TrainConfig).dump_python(config, mode="json")
            flat = {key: str(value) for key, value in values.items()}
            accelerator.init_trackers("vqkit", config=flat)
        try:
            yield Runtime(accelerator, precision)
        finally:
            # Not accelerate's end_training, which takes the process group away.
            for tracker in accelerator.trackers:
                tracker.finish()


def _accelerator(config: TrainConfig, precision: torch.dtype, folder: Path | None) -> Any:
    from accelerate import Accelerator
    from accelerate.utils import DistributedDataParallelKwargs

    return Accelerator(
        cpu=not on_gpu(config),
        mixed_precision="bf16" if precision == torch.bfloat16 else "no",
        log_with=list(config.trackers) or None,
        project_dir=None if folder is None else str(folder),
        # Codebooks are equal on all ranks by their own all-reduce, before any broadcast.
        kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False)],
    )


def keep_freed_memory() -> None:
    """Lets the process keep memory that a step freed for the next step, up to 1 GiB.

    The C library of Linux gives large blocks back at once, and the system zeroes them anew for the
    next tensor: about a twentieth of the time of a training step on a CPU.
    """
    if platform.libc_ver()[0] == "glibc":
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(MMAP_THRESHOLD, 2**25)  # the most that it takes
        mallopt(TRIM_THRESHOLD, 2**30)


def check_trackers(names: Sequence[str], folder: Path | None) -> None:
    """Raises ValueError unless accelerate knows the trackers and they are installed."""
    if not names:
        return
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS, get_available_trackers

    installed = [tracker.value for tracker in get_available_trackers()]
    for name in names:
        if name not in LOGGER_TYPE_TO_CLASS:
            known = ", ".join(LOGGER_TYPE_TO_CLASS)
            raise ValueError(f"trackers: {name} is not known; there are {known}")
        if name not in installed:
            raise ValueError(f"trackers: {name} is not installed; pip install {name}")
        if folder is None and LOGGER_TYPE_TO_CLASS[name].requires_logging_directory:
            raise ValueError(f"trackers: {name} writes files; give fit a folder")


def on_gpu(config: TrainConfig) -> bool:
    """Whether the run is on a GPU of CUDA; other accelerators lack float64, which means need."""
    return config.device == "auto" and torch.cuda.is_available()


def choose_precision(config: TrainConfig) -> torch.dtype:
    """The precision of the networks on this machine.

    Raises:
        ValueError: If bfloat16 is asked for on the CPU, where it is slower and no gain.
    """
    gpu = on_gpu(config)
    if config.precision == "bfloat16" and not gpu:
        raise ValueError("precision is bfloat16, which is for GPUs; take auto or float32 here")
    fast = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    if config.precision == "bfloat16" or (config.precision == "auto" and fast):
        return torch.bfloat16
    return torch.float32


def join_processes(*, cpu: bool = False) -> None:
    """Joins the other processes of ``torchrun``; alone, or joined already, it does nothing.

    Call it before work that only one process should do, such as the index pass.

    Args:
        cpu: Whether to stay off the GPUs.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or dist.is_initialized():
        return
    gpu = torch.cuda.is_available() and not cpu
    if gpu:
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    dist.init_process_group("nccl" if gpu else "gloo")
    atexit.register(leave_processes)


def leave_processes() -> None:
    """The opposite of ``join_processes``; done at exit by itself."""
    if dist.is_initialized():
        # Its threads end when nothing refers to it; one that outlives Python kills the process.
        gc.collect()
        dist.destroy_process_group()
        gc.collect()


@contextmanager
def accelerator_state() -> Iterator[None]:
    """A fresh global state of accelerate: a run's device and precision must not outlive it."""
    from accelerate.state import AcceleratorState, PartialState

    shared = (AcceleratorState._shared_state, PartialState._shared_state)
    before = [dict(state) for state in shared]
    for state in shared:
        state.clear()
    try:
        yield
    finally:
        for state, saved in zip(shared, before, strict=True):
            state.clear()
            state.update(saved)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Deterministic kernels inside, if wanted."""
    if not wanted:
        yield
        return
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.benchmark,
        cudnn.deterministic,
    )
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    cudnn.benchmark, cudnn.deterministic = False, True
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.benchmark, cudnn.deterministic = before[2:]


@contextmanager
def kept_generator(gpu: bool) -> Iterator[None]:
    """The global random state is as before afterwards: the loop seeds it at every step."""
    with torch.random.fork_rng([torch.cuda.current_device()] if gpu else []):
        yield


def on_main(function: Callable[[], T]) -> T:
    """What rank 0 gets from a function that talks to the world, on every rank, errors included.

    Without it an error of rank 0, such as a full disk, would leave the others waiting for ever.

    Args:
        function: Called on rank 0 alone; its result must be picklable.
    """
    if not distributed.is_distributed():
        return function()
    result: Any = None
    error: Exception | None = None
    if distributed.is_main():
        try:
            result = function()
        except Exception as caught:
            error = caught
    result, failed = distributed.broadcast_object((result, error))
    if failed is not None:
        raise error or failed
    return result


def share_state(module: nn.Module) -> None:
    """Gives every rank the weights and buffers of rank 0."""
    if distributed.is_distributed():
        with torch.no_grad():
            for tensor in module.state_dict().values():
                _broadcast(tensor)


def _broadcast(tensor: Tensor) -> None:
    plain = tensor.contiguous()
    dist.broadcast(plain, src=0)
    if plain.data_ptr() != tensor.data_ptr():
        tensor.copy_(plain)
