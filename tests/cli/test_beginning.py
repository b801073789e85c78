"""A run folder before the first step: kept for one process, left without a trace, begun again."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY, TINY_PRIOR

from vqkit import storage, training
from vqkit.cli.runs import begun
from vqkit.training.resume import lock

HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print(os.getpid(), file=file, flush=True)
print("ready", flush=True)
sys.stdin.read()
"""
COMMANDS = ["train", "train-prior"]


@contextmanager
def held(folder: Path) -> Iterator[int]:
    """Another process trains in the folder; gives its number."""
    words = [sys.executable, "-c", HOLD, str(folder / ".lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield process.pid


def words_of(command: str, made: Made, folder: Path) -> list[object]:
    if command == "train":
        data = [f"data.path={made.images}", "train.num_workers=0"]
        return ["train", "photos-64", *data, *TINY, "-o", folder]
    return ["train-prior", made.tokens, *TINY_PRIOR, "-t", made.run, "-o", folder]


def contents(folder: Path) -> dict[str, bytes]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def interrupt(*args: object, **options: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("command", COMMANDS)
def test_a_refused_process_touches_nothing(cli: Cli, made: Made, tmp_path: Path, command: str):
    run = tmp_path / "run"
    (run / "tokenizer").mkdir(parents=True)
    for name in ("config.yaml", "index.json", "classes.json", "tokenizer/config.json"):
        (run / name).write_text("of the first process")
    with held(run) as owner:
        before = contents(run)
        failure = cli(*words_of(command, made, run)).failure
        assert failure.startswith(f"{run} is in use: process {owner} trains there; ")
        assert contents(run) == before


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("stopped", ["fit", "write_text", "replace"])
def test_a_start_that_was_stopped_before_its_first_step_begins_again(
    cli: Cli,
    made: Made,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    command: str,
    stopped: str,
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        place = {"fit": training, "write_text": storage, "replace": Path}[stopped]
        patch.setattr(place, stopped, interrupt)
        assert cli(*words_of(command, made, run)).code == 130
    for name in (".config.yaml.123.part", ".index.json.7.part", ".classes.json.7.part"):
        (run / name).write_text("half")  # by SIGKILL, which takes nothing away
    (run / ".tokenizer.99.part").mkdir()
    assert cli(*words_of(command, made, run)).code == 0
    assert begun(run)
    assert not list(run.glob(".*.part"))


@pytest.mark.parametrize("command", COMMANDS)
def test_a_start_that_fails_leaves_no_trace(
    cli: Cli, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
):
    def fail(*args: object, **options: object) -> None:
        raise OSError("no more")

    monkeypatch.setattr(training, "fit", fail)
    assert cli(*words_of(command, made, tmp_path / "run")).failure == "no more"
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_kept_until_the_outermost_of_one_process_ends(tmp_path: Path):
    taking = "from vqkit.training.resume import lock; from pathlib import Path; import sys\n"
    taking += "with lock(Path(sys.argv[1])): pass"

    def others_may() -> bool:
        words = [sys.executable, "-c", taking, str(tmp_path)]
        return subprocess.run(words, capture_output=True).returncode == 0

    with lock(tmp_path):
        with lock(tmp_path / "." / "x" / ".."):
            pass
        assert not others_may()
    assert others_may()


def test_a_lock_on_a_file_that_was_taken_away_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run, opened = tmp_path / "run", []
    open_file = Path.open

    def slowly(path: Path, *args: str, **options: str):
        file = open_file(path, *args, **options)  # pyright: ignore
        if not opened:  # meanwhile the owner gives up, and takes its folder away
            opened.append(path)
            path.unlink()
            run.rmdir()
        return file

    monkeypatch.setattr(Path, "open", slowly)
    with lock(run):
        assert (run / ".lock").read_text() == f"{os.getpid()}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_the_run_of_the_other_model_asks_for_another_folder(cli: Cli, made: Made, command: str):
    run, kind = (made.prior, "prior") if command == "train" else (made.run, "tokenizer")
    failure = cli(*words_of(command, made, run)).failure
    assert failure == f"{run} holds the run of a {kind}; choose another folder with -o"


@pytest.mark.parametrize("command", COMMANDS)
def test_a_config_of_ones_own_is_not_written_over(
    cli: Cli, made: Made, tmp_path: Path, command: str
):
    (tmp_path / "config.yaml").write_text("preset: photos-64\n")
    failure = cli(*words_of(command, made, tmp_path)).failure
    assert failure.endswith("is no run, it holds config.yaml; choose another folder with -o")
    assert contents(tmp_path) == {"config.yaml": b"preset: photos-64\n"}
