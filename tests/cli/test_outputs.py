"""What commands write: whole or not there, and never over what is not theirs."""

import errno
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY, TINY_PRIOR
from tests.cli.test_beginning import contents

from vqkit import atomic

TRAIN = ["train", "photos-64", "train.num_workers=0", *TINY]


def full_after(num: int) -> Callable[[Path], None]:
    """A disk that has room for so many files."""
    left = [num]

    def sync(path: Path) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, "No space left on device")

    return sync


def test_a_full_disk_is_named_and_nothing_half_written_stays(
    cli: Cli, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(atomic, "sync", full)
    failure = cli("sample", made.prior, "-n", 3, "-o", tmp_path / "out").failure
    assert failure.startswith(f"{tmp_path / 'out' / '0000.png'}: No space left on device; free")
    assert list(tmp_path.iterdir()) == []


def test_no_command_writes_into_a_folder_of_something_else(cli: Cli, made: Made, tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    commands = [
        [*TRAIN, f"data.path={made.images}", "-o", tmp_path],
        ["train-prior", made.tokens, *TINY_PRIOR, "-t", made.run, "-o", tmp_path],
        ["sample", made.prior, "-n", 3, "-o", tmp_path],
        ["sample", made.prior, "-n", 3, "-o", tmp_path, "--force"],
        ["decode", made.run, made.tokens, tmp_path],
        ["encode", made.run, made.images, tmp_path],
    ]
    for words in commands:
        assert cli(*words).failure.startswith(f"{tmp_path} ")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_the_images_of_a_folder_are_not_spoilt_by_their_tokens(cli: Cli, made: Made):
    before = contents(made.images)
    failure = cli("encode", made.run, made.images, made.images).failure
    assert failure.startswith(f"{made.images} holds cat and is no token set; ")
    assert contents(made.images) == before


def test_a_file_is_no_folder_for_tokens(cli: Cli, made: Made, tmp_path: Path):
    (tmp_path / "afile").write_text("mine")
    failure = cli("encode", made.run, made.images, tmp_path / "afile").failure
    assert failure == f"{tmp_path / 'afile'} is a file; give another folder for the tokens"


@pytest.mark.parametrize("name", ["my.txt", "mine/0000.png", "9999.png", "uniform/my.txt"])
def test_samples_are_not_replaced_together_with_what_is_none(
    cli: Cli, made: Made, tmp_path: Path, name: str
):
    words = ["sample", made.prior, "-n", 3, "-o", tmp_path / "out"]
    assert cli(*words).code == 0
    (tmp_path / "out" / name).parent.mkdir(exist_ok=True)
    (tmp_path / "out" / name).write_text("precious")
    before = contents(tmp_path)
    failure = cli(*words, "--seed", 1, "--force").failure
    assert failure.startswith(f"{tmp_path / 'out'} holds {name.removesuffix('/0000.png')}")
    assert "besides samples; move that away, or choose another folder with -o" in failure
    assert contents(tmp_path) == before


def test_a_record_that_is_none_of_samples_protects_its_folder(cli: Cli, made: Made, tmp_path: Path):
    for text in ("{", "[]", "{}", '{"num": "3"}'):
        (tmp_path / "samples.json").write_text(text)
        (tmp_path / "0000.png").write_text("mine")
        assert cli("sample", made.prior, "-n", 3, "-o", tmp_path, "--force").code == 1
        assert (tmp_path / "0000.png").read_text() == "mine"


def test_compared_samples_are_replaced_when_told(cli: Cli, made: Made, tmp_path: Path):
    words = ["sample", made.prior, "-n", 3, "-o", tmp_path / "out"]
    assert cli(*words, "--compare").code == 0
    assert cli(*words, "--force").code == 0
    names = ["0000.png", "0001.png", "0002.png", "contact-sheet.png", "samples.json"]
    assert sorted(contents(tmp_path / "out")) == names


def test_old_samples_stay_when_there_is_no_room_for_new_ones(
    cli: Cli, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    words = ["sample", made.prior, "-n", 3, "-o", tmp_path / "out"]
    assert cli(*words).code == 0
    before = contents(tmp_path)
    monkeypatch.setattr(atomic, "sync", full_after(2))
    assert "free some space" in cli(*words, "--seed", 1, "--force").failure
    assert contents(tmp_path) == before


@pytest.mark.parametrize("room", [0, 3, 6])
def test_figures_pictures_and_page_are_of_one_evaluation(
    cli: Cli, made: Made, monkeypatch: pytest.MonkeyPatch, room: int
):
    assert cli("evaluate", made.run).code == 0
    before = contents(made.run)
    monkeypatch.setattr(atomic, "sync", full_after(room))
    failure = cli("evaluate", made.run, made.images).failure
    assert failure.startswith(str(made.run))
    assert ".part" not in failure
    assert "No space left on device; free some space" in failure
    assert contents(made.run) == before
