"""Compiled functions are used only where they are those of the files beside them."""

import ctypes
import warnings
import zlib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from vqkit.compiled import load

FILES = {"a.c": b"int f(void) { return 1; }\n", "a.h": b"/* a header */\n"}


class Library:
    """Stands for a library that was opened; its file holds what ``vqkit_sources`` gives."""

    def __init__(self, path: str) -> None:
        text = Path(path).read_text()
        if text == "of another machine":
            raise OSError("wrong format")
        if text:
            self.vqkit_sources = Sources(int(text))


class Sources:
    restype = ctypes.c_int

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self) -> int:
        assert self.restype is ctypes.c_uint32  # or half of the numbers come out negative
        return self.number


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """With files, and a library that knows that it was made of them."""
    monkeypatch.setattr(ctypes, "CDLL", Library)
    for name, text in FILES.items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / f"_a{EXTENSION_SUFFIXES[0]}").write_text(str(zlib.crc32(b"".join(FILES.values()))))
    return tmp_path


def test_what_was_made_of_the_files_that_are_there_is_loaded(folder: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder, "_a", list(FILES)) is not None
        assert load(folder, "_b", list(FILES)) is None


@pytest.mark.parametrize("changed", FILES)
def test_what_was_made_of_other_files_is_left_out_with_a_warning(folder: Path, changed: str):
    with (folder / changed).open("a") as file:
        file.write("/* changed */\n")
    with pytest.warns(RuntimeWarning, match=r"other files than those beside it.*install vqkit"):
        assert load(folder, "_a", list(FILES)) is None


def test_what_does_not_know_its_files_is_left_out_with_a_warning(folder: Path):
    (folder / f"_a{EXTENSION_SUFFIXES[0]}").write_text("")
    with pytest.warns(RuntimeWarning, match="other files"):
        assert load(folder, "_a", list(FILES)) is None


def test_without_the_files_it_is_loaded_as_it_is(folder: Path):
    (folder / "a.c").unlink()
    assert load(folder, "_a", list(FILES)) is not None


def test_what_this_machine_cannot_open_is_left_out(folder: Path):
    (folder / f"_a{EXTENSION_SUFFIXES[0]}").write_text("of another machine")
    assert load(folder, "_a", list(FILES)) is None
