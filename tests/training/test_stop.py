"""Signals end a run after a step, with a checkpoint, on every rank at once."""

import os
import signal
import threading
from pathlib import Path

import pytest
import torch
from tests.training import tiny

from vqkit import distributed
from vqkit.storage import fingerprint
from vqkit.training import Stopped, fit
from vqkit.training.loop import Trainer
from vqkit.training.stop import NEVER, StopSignal, Watch

KEYS = {"steps": 12, "checkpoint_every": 5, "log_every": 5}


def signalled(number: int, at: int, rank: int = 0) -> None:
    """From now on a process gets a signal in the middle of a step."""
    step = Trainer._backward

    def sends(self: Trainer, now: int, *args):
        if now == at and distributed.rank() == rank:
            os.kill(os.getpid(), number)
        return step(self, now, *args)

    Trainer._backward = sends


@pytest.fixture
def backward(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes back what ``signalled`` did."""
    monkeypatch.setattr(Trainer, "_backward", Trainer._backward)


def run(folder: Path | None, **keys):
    return fit(tiny.model(), tiny.series(), tiny.config(**KEYS | keys), folder=folder)


@pytest.mark.usefixtures("backward")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_finishes_the_step_and_writes_a_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture, number: int, code: int
):
    handlers = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    signalled(number, at=6)
    with pytest.raises(Stopped) as stopped:
        run(tmp_path, progress="lines")
    assert capsys.readouterr().err.endswith("stopped at step 7; run the same command to go on\n")
    assert (stopped.value.step, stopped.value.signal, stopped.value.code) == (7, number, code)
    assert str(stopped.value) == "stopped at step 7; run the same command to go on"
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == handlers
    assert (tmp_path / "checkpoints" / "step-00000007").is_dir()
    assert not (tmp_path / "model.safetensors").exists()


@pytest.mark.usefixtures("backward")
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path):
    whole = run(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "_backward", Trainer._backward)
        signalled(signal.SIGTERM, at=6)
        with pytest.raises(Stopped):
            run(tmp_path / "stopped")
    assert fingerprint(run(tmp_path / "stopped")) == fingerprint(whole)
    for found, expected in zip(
        tiny.lines(tmp_path / "stopped"), tiny.lines(tmp_path / "whole"), strict=True
    ):
        assert found.keys() == expected.keys()
        assert found["loss"] == pytest.approx(expected["loss"], rel=1e-12)
        assert found["perplexity"] == expected["perplexity"]


@pytest.mark.usefixtures("backward")
def test_a_run_without_a_folder_says_that_nothing_was_saved():
    signalled(signal.SIGTERM, at=2)
    with pytest.raises(Stopped, match="stopped at step 3; nothing was saved"):
        run(None)


@pytest.mark.usefixtures("backward")
def test_a_signal_in_the_last_step_lets_the_run_end(tmp_path: Path):
    signalled(signal.SIGTERM, at=11)
    run(tmp_path)
    assert (tmp_path / "model.safetensors").is_file()


def test_a_second_signal_does_not_wait():
    stop = StopSignal()
    with stop.caught():
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_run_in_another_thread_leaves_signals_alone():
    worked = []
    thread = threading.Thread(target=lambda: worked.append(run(None)))
    thread.start()
    thread.join()
    assert worked


def script(folder: Path, at: int) -> None:
    signalled(signal.SIGTERM, at)
    run(folder)


def test_a_script_that_is_stopped_exits_as_a_shell_expects(tmp_path: Path):
    assert tiny.run(script, tmp_path, 3) == 143


def pair(folder: Path) -> None:
    signalled(signal.SIGTERM, at=6, rank=1)
    try:
        run(folder)
    except Stopped as stopped:
        (folder / f"rank{distributed.rank()}").write_text(f"{stopped.step} {stopped.code}")


@pytest.mark.slow
def test_all_ranks_stop_at_the_same_step_when_one_is_asked_to(tmp_path: Path):
    assert tiny.run_pair(pair, tmp_path / "store", tmp_path) == [0, 0]
    assert {(tmp_path / f"rank{rank}").read_text() for rank in range(2)} == {"7 143"}
    assert (tmp_path / "checkpoints" / "step-00000007").is_dir()


def test_the_watch_finds_the_first_step_and_all_that_was_wrong_in_it():
    watch = Watch(torch.device("cpu"))
    good, nan, inf = (torch.tensor(value) for value in (1.0, torch.nan, torch.inf))
    watch.see(3, {"a": good, "b": good, "gradient": good})
    assert watch.agree(StopSignal()) == (0, None, ())
    watch.see(4, {"a": good, "b": inf, "gradient": nan})
    watch.see(5, {"a": nan, "b": nan, "gradient": nan})
    assert watch.agree(StopSignal()) == (0, 4, ("b",))
    assert int(watch.first.max()) < NEVER
