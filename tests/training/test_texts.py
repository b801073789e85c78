"""Texts of unequal lengths train as any items do: resumed, and in two processes."""

import hashlib
from pathlib import Path
from unittest import mock

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.modalities.text import texts
from tests.training import tiny
from tests.training.test_resume import die
from torch.testing import assert_close

from vqkit import distributed
from vqkit.training import fit
from vqkit.training.loop import Trainer

WEIGHTS = "model.safetensors"
BOTH = pytest.mark.parametrize("decoder", ["parallel", "autoregressive"])


def train(folder: Path | None, decoder: str, **keys) -> dict[str, torch.Tensor]:
    model = texts.model(decoder, dropout=0.1, started=False).double()
    options = {"steps": 12, "checkpoint_every": 5, "log_every": 4, "micro_batches": 2} | keys
    fit(model, texts.many(), tiny.config(**options), folder=folder, eval_examples=texts.many(9))
    return tiny.state(model)


def train_and_die(folder: Path, decoder: str, at: int) -> None:
    """Is killed in the middle of a step."""
    original = Trainer._check

    def check(self: Trainer, step: int, *rest: object) -> int:
        if step == at:
            die()
        return original(self, step, *rest)

    with mock.patch.object(Trainer, "_check", check):
        train(folder, decoder)


def train_whole(folder: Path, decoder: str) -> None:
    train(folder, decoder)


def half(folder: Path, decoder: str) -> None:
    save_file(train(None, decoder), folder / f"{distributed.rank()}.safetensors")


@pytest.mark.slow
@BOTH
def test_a_killed_run_ends_as_one_that_was_not(tmp_path: Path, decoder: str):
    assert tiny.run(train_whole, tmp_path / "whole", decoder) == 0
    assert tiny.run(train_and_die, tmp_path / "killed", decoder, 7) != 0
    assert tiny.run(train_whole, tmp_path / "killed", decoder) == 0
    ends = [(tmp_path / name / WEIGHTS).read_bytes() for name in ("whole", "killed")]
    assert hashlib.sha256(ends[0]).digest() == hashlib.sha256(ends[1]).digest()
    assert tiny.lines(tmp_path / "whole") == tiny.lines(tmp_path / "killed")
    measured = [line for line in tiny.lines(tmp_path / "whole") if "eval" not in line]
    key = "accuracy" if decoder == "parallel" else "bits_per_dim"
    assert all(key in line for line in measured)
    assert not any("mse" in line or "psnr" in line for line in measured)


@pytest.mark.slow
@BOTH
def test_two_processes_with_half_the_batch_equal_one(tmp_path: Path, decoder: str):
    assert tiny.run_pair(half, tmp_path / "store", tmp_path, decoder) == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert_close(first, second, rtol=0, atol=0)
    assert_close(first, train(None, decoder), rtol=0, atol=1e-9)
