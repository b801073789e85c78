"""Device and precision are of one run, and nothing global outlives it."""

import os
import re
from pathlib import Path

import pytest
import torch
from tests.training import tiny

from vqkit.training import TrainConfig, fit, join_processes
from vqkit.training.runtime import choose_precision, open_runtime


def test_precision_on_a_cpu_is_float32_and_nothing_else():
    assert choose_precision(TrainConfig(device="cpu")) == torch.float32
    with pytest.raises(ValueError, match="precision is bfloat16, which is for GPUs"):
        choose_precision(TrainConfig(device="cpu", precision="bfloat16"))


def test_precision_on_a_gpu_is_bfloat16_where_it_has_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for supported, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda *a, s=supported, **k: s)
        assert choose_precision(TrainConfig()) == expected
        assert choose_precision(TrainConfig(precision="float32")) == torch.float32


def test_an_accelerator_of_the_users_own_is_not_disturbed():
    from accelerate import Accelerator
    from accelerate.state import AcceleratorState

    own = Accelerator(cpu=True, mixed_precision="bf16")
    try:
        fit(tiny.model(), tiny.series(), tiny.config(steps=1))
        assert own.mixed_precision == "bf16"
        assert own.device == torch.device("cpu")
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)


def test_deterministic_kernels_are_of_the_run_alone():
    assert not torch.are_deterministic_algorithms_enabled()
    config = tiny.config(deterministic=True)
    with open_runtime(config, None):
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.backends.cudnn.deterministic
    assert not torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.deterministic
    fit(tiny.model(), tiny.series(), config)


def test_joining_alone_does_nothing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    join_processes()
    assert not torch.distributed.is_initialized()


@pytest.mark.parametrize("name", ["nonsense", "comet_ml"])
def test_a_tracker_that_is_not_there_is_named(tmp_path: Path, name: str):
    with pytest.raises(ValueError, match=f"trackers: .*{re.escape(name)}") as error:
        fit(tiny.model(), tiny.series(), tiny.config(trackers=[name]), folder=tmp_path)
    assert "\n" not in str(error.value)


def test_tensorboard_gets_the_metrics(tmp_path: Path):
    pytest.importorskip("tensorboard")
    config = tiny.config(steps=2, log_every=1, trackers=["tensorboard"])
    fit(tiny.model(), tiny.series(), config, folder=tmp_path)
    assert [path for path in tmp_path.rglob("events.out.tfevents*") if path.stat().st_size > 100]


def test_the_networks_are_compiled_for_the_time_of_the_run(monkeypatch: pytest.MonkeyPatch):
    compiled = []

    def compile_(module: torch.nn.Module) -> None:
        compiled.append(module)
        module._compiled_call_impl = module._call_impl

    monkeypatch.setattr(torch.nn.Module, "compile", compile_)
    model = tiny.model()
    fit(model, tiny.series(), tiny.config(compile=True))
    assert compiled == [model.encoder, model.decoder]
    assert all(module._compiled_call_impl is None for module in compiled)


def test_environment_variables_are_left_alone():
    before = dict(os.environ)
    fit(tiny.model(), tiny.series(), tiny.config(steps=1))
    assert dict(os.environ) == before
