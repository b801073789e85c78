"""What must hold for files and folders: whole or not there, and what is said without room."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from threading import Thread

import pytest
import torch
from safetensors import SafetensorError

from vqkit import atomic, storage


def names(folder: Path) -> list[str]:
    """All that is in a folder, temporary files included."""
    return sorted(path.name for path in folder.rglob("*"))


def fail_after_writing(path: Path) -> None:
    path.write_text("half")
    raise RuntimeError


def test_a_folder_gives_way_only_to_a_whole_one(tmp_path: Path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(RuntimeError), atomic.atomic_folder(folder, replace=True):
        raise RuntimeError
    assert (folder / "old.txt").read_text() == "old"
    with atomic.atomic_folder(folder, replace=True) as part:
        (part / "new.txt").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new.txt"]


def test_files_take_their_places_together_and_others_stay(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    for name in ("a.txt", "notes.txt", "pictures/a.png", "pictures/mine.png"):
        (tmp_path / name).write_text("old")
    with atomic.atomic_files(tmp_path) as part:
        (part / "pictures").mkdir()
        for name in ("a.txt", "pictures/a.png", "pictures/b.png"):
            (part / name).write_text("new")
        assert (tmp_path / "a.txt").read_text() == "old"
    found = {p.relative_to(tmp_path).as_posix(): p.read_text() for p in tmp_path.rglob("*.*")}
    assert found == {
        "a.txt": "new",
        "notes.txt": "old",
        "pictures/a.png": "new",
        "pictures/b.png": "new",
        "pictures/mine.png": "old",
    }


def test_files_that_fail_leave_the_old_ones(tmp_path: Path):
    (tmp_path / "a.txt").write_text("old")
    with pytest.raises(IsADirectoryError), atomic.atomic_files(tmp_path) as part:
        part.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


@pytest.mark.parametrize("make", [atomic.atomic_file, atomic.atomic_folder, atomic.atomic_files])
def test_an_error_of_the_system_never_speaks_of_a_temporary_name(
    tmp_path: Path, make: Callable[[Path], AbstractContextManager[Path]]
):
    place = tmp_path / "place"
    with pytest.raises(OSError, match="No space left") as error, make(place):
        raise OSError(errno.ENOSPC, "No space left on device")  # as libraries do
    assert error.value.filename == str(place)
    with pytest.raises(OSError, match="No space left") as error, make(place) as part:
        raise OSError(errno.ENOSPC, "No space left on device", str(part / "inner"))
    assert error.value.filename == str(place / "inner")
    with pytest.raises(FileNotFoundError) as error, make(place):
        (tmp_path / "elsewhere").read_text()
    assert error.value.filename == str(tmp_path / "elsewhere")


def test_a_folder_that_was_put_aside_by_a_killed_process_gives_way_at_last(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    aside = tmp_path / f".out.{gone.pid}.old.part"
    aside.mkdir()
    (aside / "old.txt").write_text("old")
    with atomic.atomic_folder(tmp_path / "out") as part:
        assert aside.exists()  # until there is a whole one again
        (part / "new.txt").write_text("new")
    assert names(tmp_path) == ["new.txt", "out"]


def test_a_folder_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    rename = Path.rename

    def refuse(self: Path, target: Path) -> Path:
        if target == tmp_path / "out" and "old" not in self.name:
            raise PermissionError(errno.EACCES, "Permission denied", str(self))
        return rename(self, target)

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0010.png").write_text("old")
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(PermissionError), atomic.atomic_folder(tmp_path / "out", replace=True):
        pass
    assert names(tmp_path) == ["0010.png", "out"]


def test_tensors_for_which_there_is_no_room_are_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(tensors: dict, path: Path) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        storage.write_tensors(tmp_path / "model.safetensors", {"a": torch.zeros(1)})
    assert (error.value.errno, error.value.filename) == (28, str(tmp_path / "model.safetensors"))


def test_a_file_appears_whole(tmp_path: Path):
    path = tmp_path / "a.txt"
    with atomic.atomic_file(path) as part:
        part.write_text("half")
        assert not path.exists()
        part.write_text("whole")
    assert path.read_text() == "whole"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_that_fails_leaves_the_old_one_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), atomic.atomic_file(path) as part:
        fail_after_writing(part)
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_file_that_could_not_be_put_on_disk_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        storage.write_text(path, "new")
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_what_is_renamed_is_on_disk_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    order: list[str] = []
    sync, replace = atomic.sync, Path.replace
    monkeypatch.setattr(atomic, "sync", lambda path: (order.append(path.name), sync(path)))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: (order.append("rename"), replace(self, to))[1]
    )
    storage.write_text(tmp_path / "a.txt", "text")
    assert order[1:] == ["rename", tmp_path.name]
    assert "a.txt" in order[0]


def test_a_folder_appears_whole(tmp_path: Path):
    folder = tmp_path / "deep" / "checkpoint"
    with atomic.atomic_folder(folder) as part:
        (part / "inner").mkdir()
        (part / "inner" / "a.txt").write_text("a")
        assert not folder.exists()
    assert names(tmp_path) == ["a.txt", "checkpoint", "deep", "inner"]


def test_a_folder_that_fails_leaves_nothing(tmp_path: Path):
    with pytest.raises(RuntimeError), atomic.atomic_folder(tmp_path / "checkpoint") as part:
        fail_after_writing(part / "a.txt")
    assert names(tmp_path) == []


def test_a_folder_is_never_written_over(tmp_path: Path):
    (tmp_path / "checkpoint" / "inner").mkdir(parents=True)
    with (
        pytest.raises(FileExistsError, match="remove it or choose"),
        atomic.atomic_folder(tmp_path / "checkpoint"),
    ):
        pass


def test_what_an_earlier_process_left_half_written_is_no_obstacle(tmp_path: Path):
    part = tmp_path / f".checkpoint.{os.getpid()}.part"
    part.mkdir()
    (part / "old.txt").write_text("old")
    with atomic.atomic_folder(tmp_path / "checkpoint") as folder:
        (folder / "new.txt").write_text("new")
    assert names(tmp_path) == ["checkpoint", "new.txt"]


def test_an_empty_folder_gives_way(tmp_path: Path):
    (tmp_path / "checkpoint").mkdir()
    with atomic.atomic_folder(tmp_path / "checkpoint") as part:
        (part / "a.txt").write_text("a")
    assert names(tmp_path) == ["a.txt", "checkpoint"]


@pytest.mark.parametrize("is_file", [True, False])
def test_what_another_process_wrote_meanwhile_stays(tmp_path: Path, is_file: bool):
    folder = tmp_path / "samples"
    theirs = folder if is_file else folder / "theirs.txt"

    def write() -> None:
        with atomic.atomic_folder(folder) as part:
            (part / "ours.txt").write_text("ours")
            theirs.parent.mkdir(exist_ok=True)
            theirs.write_text("theirs")

    with pytest.raises(FileExistsError, match="samples exists already"):
        write()
    assert theirs.read_text() == "theirs"
    assert names(tmp_path) == ["samples"] if is_file else ["samples", "theirs.txt"]


def test_parts_of_killed_processes_are_removed_and_those_of_others_are_not(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    kept = [f".out.{os.getppid()}.part", f".out.put.{gone.pid}.part", ".out.mine.part"]
    for name in (f".out.{gone.pid}.part", *kept):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text("a")
    with atomic.atomic_folder(tmp_path / "out"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*kept, "out"])


def test_single_files_of_killed_processes_are_removed_and_those_of_others_are_not(tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    for owner in (os.getpid(), gone.pid, 1, "mine"):
        (tmp_path / f".shard.parquet.{owner}.part").touch()
    atomic.remove_left(tmp_path.glob(".shard.*.part"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".shard.parquet.1.part",
        ".shard.parquet.mine.part",
    ]


def test_one_after_another_has_a_folder_and_no_file_is_left(tmp_path: Path):
    order: list[str] = []

    def other() -> None:
        with atomic.one_at_a_time(tmp_path):
            order.append("other")

    thread = Thread(target=other)
    with atomic.one_at_a_time(tmp_path):
        thread.start()
        thread.join(timeout=0.2)
        order.append("first")
    thread.join(timeout=10)
    assert order == ["first", "other"]
    assert names(tmp_path) == []
