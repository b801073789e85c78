"""Commands as processes: several at once, and stopped from outside."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.cli.conftest import Made
from tests.cli.folders import TINY, TINY_PRIOR, make_images

from vqkit.autoencoder import VQVAE

pytestmark = pytest.mark.slow
TRAIN = ["-m", "vqkit", "train", "photos-64", "train.num_workers=0", *TINY]
ENV = {**os.environ, "OMP_NUM_THREADS": "1"}


def together(*words: str) -> subprocess.CompletedProcess[str]:
    """Runs two processes of a command."""
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *launcher, *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=ENV)


def test_two_processes_train_encode_and_evaluate_as_one(tmp_path: Path):
    images, run, tokens = (str(tmp_path / name) for name in ("images", "run", "tokens"))
    make_images(tmp_path / "images", 20)
    for words in (
        [*TRAIN, f"data.path={images}", "-o", run],
        ["-m", "vqkit", "encode", run, images, tokens, "--shard-size", "7"],
        ["-m", "vqkit", "evaluate", run, images],
    ):
        found = together(*words)
        assert found.returncode == 0, found.stderr
        assert found.stdout.count(f"{run}\n") <= 1  # one process speaks
    assert len(list((tmp_path / "tokens").iterdir())) == 3
    assert "over 20 images" in found.stdout


def test_two_processes_judge_the_new_images_of_a_prior(tmp_path: Path):
    images, run, tokens, prior = (str(tmp_path / n) for n in ("images", "run", "tokens", "prior"))
    make_images(tmp_path / "images", 60)
    for words in (
        [*TRAIN, f"data.path={images}", "-o", run],
        ["-m", "vqkit", "encode", run, images, tokens],
        ["-m", "vqkit", "train-prior", tokens, *TINY_PRIOR, "-t", run, "-o", prior],
        ["-m", "vqkit", "evaluate", prior, "--samples", "9"],
    ):
        found = together(*words)
        assert found.returncode == 0, found.stderr
    assert found.stdout.count("over 9 samples, features of classifier:") == 1
    kept = json.loads((tmp_path / "prior" / "metrics.json").read_text())["generation"]
    alone = [sys.executable, "-m", "vqkit", "evaluate", prior, "--samples", "9"]
    assert subprocess.run(alone, capture_output=True, timeout=60, env=ENV).returncode == 0
    again = json.loads((tmp_path / "prior" / "metrics.json").read_text())["generation"]
    assert again["neighbors"] == pytest.approx(kept["neighbors"], rel=1e-3)
    for name in ("learned", "histogram", "training_images"):
        assert again[name] == pytest.approx(kept[name], rel=1e-3)


def test_a_fault_stops_all_processes_with_a_line_each(tmp_path: Path):
    found = together(*TRAIN, f"data.path={tmp_path / 'nowhere'}", "-o", str(tmp_path / "run"))
    assert found.returncode == 1
    lines = [line for line in found.stderr.splitlines() if line.startswith("vqkit")]
    assert any(line.startswith(f"vqkit: {tmp_path / 'nowhere'} is not there") for line in lines)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_go_on_and_does(tmp_path: Path, number: signal.Signals):
    make_images(tmp_path / "images", 20)
    run = tmp_path / "run"
    command = [sys.executable, *TRAIN, f"data.path={tmp_path / 'images'}", "-o", str(run)]
    endless = [*command, "train.steps=1000000", "train.log_every=10"]
    with subprocess.Popen(endless, stderr=subprocess.PIPE, text=True, env=ENV) as process:
        while not (run / "metrics.jsonl").exists():
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "run the same command to go on" in err
    assert "Traceback" not in err
    step = int(sorted((run / "checkpoints").glob("step-*"))[-1].name.removeprefix("step-"))
    found = subprocess.run(
        [*command, f"train.steps={step + 2}"], capture_output=True, text=True, timeout=60, env=ENV
    )
    assert found.returncode == 0, found.stderr
    assert f"going on from step {step}" in found.stderr
    assert VQVAE.from_pretrained(run)


def catches(process: int) -> bool:
    """Whether vqkit has set its handlers, which Python by itself does not for SIGTERM."""
    status = Path(f"/proc/{process}/status").read_text()
    (caught,) = [line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")]
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("signal_", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_time_ends_a_command_with_one_line(tmp_path: Path, signal_: signal.Signals):
    """Also while libraries are being imported, which do not survive an exception."""
    make_images(tmp_path / "images", 20)
    command = [sys.executable, *TRAIN, f"data.path={tmp_path / 'images'}", "train.steps=1000000"]
    for number in range(24):
        words = [*command, "-o", str(tmp_path / f"run {number}")]
        with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENV) as process:
            while not catches(process.pid):  # before that Python decides
                time.sleep(0.01)
            time.sleep(number / 12)
            process.send_signal(signal_)
            _, err = process.communicate(timeout=60)
        assert process.returncode == 128 + signal_, (number, err)
        assert "Traceback" not in err
        assert "a bug" not in err


WORDS = {signal.SIGINT: "interrupted", signal.SIGTERM: "terminated"}


@pytest.mark.parametrize("number", WORDS)
def test_a_signal_leaves_nothing_half_written_and_is_told_in_one_line(
    made: Made, tmp_path: Path, number: signal.Signals
):
    command = [sys.executable, "-m", "vqkit", "sample", made.prior, "-n", "1000000"]
    words = [*map(str, command), "-o", str(tmp_path / "out"), "--batch-size", "1"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, env=ENV) as process:
        while not catches(process.pid):
            time.sleep(0.01)
        time.sleep(4)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (128 + number, f"vqkit: {WORDS[number]}\n")
    assert not list(tmp_path.iterdir())
