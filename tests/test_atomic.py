"""What must hold for folders and sets of files, and for what is said when there is no room."""

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from vqkit import storage


def test_a_folder_gives_way_only_to_a_whole_one(tmp_path: Path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "old.txt").write_text("old")
    with pytest.raises(RuntimeError), storage.atomic_folder(folder, replace=True):
        raise RuntimeError
    assert (folder / "old.txt").read_text() == "old"
    with storage.atomic_folder(folder, replace=True) as part:
        (part / "new.txt").write_text("new")
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "new.txt"]


def test_files_take_their_places_together_and_others_stay(tmp_path: Path):
    (tmp_path / "pictures").mkdir()
    for name in ("a.txt", "notes.txt", "pictures/a.png", "pictures/mine.png"):
        (tmp_path / name).write_text("old")
    with storage.atomic_files(tmp_path) as part:
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
    with pytest.raises(IsADirectoryError), storage.atomic_files(tmp_path) as part:
        part.write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"a.txt": "old"}


@pytest.mark.parametrize("make", [storage.atomic_file, storage.atomic_folder, storage.atomic_files])
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


def test_a_folder_that_cannot_be_removed_is_named_with_its_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(name: str, **options: int) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", name)

    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0010.png").write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, "unlink", refuse)
        with pytest.raises(PermissionError) as error:
            storage.remove_folder(tmp_path / "out")
    assert error.value.filename == str(tmp_path / "out")


def test_tensors_for_which_there_is_no_room_are_an_error_of_the_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(tensors: dict, path: Path) -> None:
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr(storage, "save_file", full)
    with pytest.raises(OSError, match="No space left on device") as error:
        storage.write_tensors(tmp_path / "model.safetensors", {"a": torch.zeros(1)})
    assert (error.value.errno, error.value.filename) == (28, str(tmp_path / "model.safetensors"))
