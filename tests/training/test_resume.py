"""A run that was killed, anywhere and any number of times, ends as one that was not."""

import hashlib
import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training import tiny

from vqkit.nn.dropout import StatelessDropout
from vqkit.training import checkpoint, fit
from vqkit.training.loop import Trainer

ROOT = Path(__file__).parents[2]
STEPS = 30
KEYS = {"steps": STEPS, "log_every": 4, "checkpoint_every": 7, "learning_rate": 0.03}


def slow(value: Any) -> Any:
    return pytest.param(value, marks=pytest.mark.slow)


def train(folder: Path, **keys: Any) -> None:
    """What the user's script does, the same at each call."""
    model = tiny.model("ema", size=24)
    model.decoder.insert(2, StatelessDropout(0.2))
    config = tiny.config(**(KEYS | keys))
    fit(model, tiny.series(), config, folder=folder, eval_examples=tiny.series(12, seed=1))


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def train_and_die(folder: Path, step: int, keys: dict[str, Any]) -> None:
    """Is killed in the middle of a step, after its gradients."""
    check = Trainer._check

    def deadly(self: Trainer, at: int, *args: Any) -> int:
        if at == step:
            die()
        return check(self, at, *args)

    Trainer._check = deadly
    train(folder, **keys)


def train_and_die_writing(folder: Path, number: int, keys: dict[str, Any]) -> None:
    """Is killed when it has written the weights of a checkpoint, and nothing else of it."""
    calls = []
    write = checkpoint.write_tensors

    def deadly(path: Path, tensors: dict) -> None:
        write(path, tensors)
        calls.append(path)
        if len(calls) == 2 * number - 1:
            die()

    checkpoint.write_tensors = deadly
    train(folder, **keys)


def train_in_child(folder: Path, keys: dict[str, Any]) -> None:
    train(folder, **keys)


def sha256(folder: Path) -> str:
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nobody killed."""
    folder = tmp_path_factory.mktemp("whole")
    assert tiny.run(train_in_child, folder, {}) == 0
    return folder


def check_equal(folder: Path, whole: Path) -> None:
    assert sha256(folder) == sha256(whole)
    assert tiny.lines(folder) == tiny.lines(whole)
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("step", [slow(0), slow(5), 17, slow(29)])
def test_a_run_killed_at_a_step_ends_with_the_weights_of_one_that_was_not(
    tmp_path: Path, whole: Path, step: int
):
    assert tiny.run(train_and_die, tmp_path, step, {}) == -signal.SIGKILL
    assert not (tmp_path / "model.safetensors").exists()
    assert tiny.run(train_in_child, tmp_path, {}) == 0
    check_equal(tmp_path, whole)


@pytest.mark.parametrize("number", [slow(1), 3])
def test_a_run_killed_while_it_writes_a_checkpoint_uses_the_one_before(
    tmp_path: Path, whole: Path, number: int
):
    assert tiny.run(train_and_die_writing, tmp_path, number, {}) == -signal.SIGKILL
    assert list((tmp_path / "checkpoints").glob(".*.part"))
    assert len(list((tmp_path / "checkpoints").glob("step-*"))) == number - 1
    assert tiny.run(train_in_child, tmp_path, {}) == 0
    check_equal(tmp_path, whole)


@pytest.mark.slow
def test_ten_kills_in_a_row_lose_nothing(tmp_path: Path, whole: Path):
    steps = sorted(random.Random(0).choices(range(STEPS), k=7))
    kills = [(train_and_die, step) for step in steps]
    for place in (0, 4, 9):
        kills.insert(place, (train_and_die_writing, 1))
    for kill, number in kills:
        assert tiny.run(kill, tmp_path, number, {}) == -signal.SIGKILL
    assert tiny.run(train_in_child, tmp_path, {}) == 0
    check_equal(tmp_path, whole)


@pytest.mark.parametrize(
    "keys",
    [
        {"ema_decay": 0.9},
        slow({"optimizer": "sgd"}),
        slow({"micro_batches": 2}),
        slow({"num_workers": 1}),
        slow({"weight_decay": 0.1, "schedule": "constant"}),
    ],
    ids=str,
)
def test_every_kind_of_run_resumes_bit_for_bit(tmp_path: Path, keys: dict[str, Any]):
    train(tmp_path / "whole", **keys)
    assert tiny.run(train_and_die, tmp_path / "killed", 17, keys) == -signal.SIGKILL
    train(tmp_path / "killed", **keys)
    check_equal(tmp_path / "killed", tmp_path / "whole")


def test_the_optimizer_of_a_resumed_run_is_the_one_that_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Adam's averages are those of the killed run, not new ones."""
    seen: dict[int, list[torch.Tensor]] = {}
    step = Trainer.step

    def spied(self: Trainer, at: int, *args: Any) -> int:
        state = self.optimizer.state
        seen[at] = [state[p]["exp_avg_sq"].clone() for p in self.parameters if p in state]
        return step(self, at, *args)

    assert tiny.run(train_and_die, tmp_path, 17, {}) == -signal.SIGKILL
    monkeypatch.setattr(Trainer, "step", spied)
    train(tmp_path)
    resumed = dict(seen)
    assert min(resumed) == 14
    train(tmp_path / "whole")
    assert resumed[14]
    for found, expected in zip(resumed[14], seen[14], strict=True):
        assert torch.equal(found, expected)
        assert expected.any()


def torchrun(folder: Path, call: str) -> int:
    code = f"from tests.training import test_resume as t; from pathlib import Path; t.{call}"
    script = folder / "train.py"
    folder.mkdir(exist_ok=True)
    script.write_text(code)
    words = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*words, str(script)], env=environment, capture_output=True, timeout=300, check=False
    )
    print(done.stderr.decode()[-5000:])  # for the report of a failure
    return done.returncode


@pytest.mark.slow
@pytest.mark.parametrize("kill", ["train_and_die", "train_and_die_writing"])
def test_two_processes_resume_bit_for_bit_after_a_kill(
    tmp_path: Path, kill: str, two_processes: Path
):
    number = 17 if kill == "train_and_die" else 2
    folder = tmp_path / "killed"
    assert torchrun(folder, f"{kill}(Path({str(folder)!r}), {number}, {{}})") != 0
    assert not (folder / "model.safetensors").exists()
    assert torchrun(folder, f"train(Path({str(folder)!r}))") == 0
    check_equal(folder, two_processes)


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert torchrun(folder, f"train(Path({str(folder)!r}))") == 0
    return folder
