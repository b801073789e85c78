"""Compiled functions are used only where they are those of the files beside them."""

import shutil
import subprocess
import warnings
import zlib
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from vqkit.compiled import load

COMPILER = shutil.which("cc")
SOURCE = "#include <stdint.h>\nuint32_t vqkit_sources(void) { return VQKIT_SOURCES; }\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With a library that knows of which file it was made."""
    if COMPILER is None:
        pytest.skip("there is no compiler")
    (tmp_path / "a.c").write_text(SOURCE)
    (tmp_path / "a.h").write_text("/* a header */\n")
    known = zlib.crc32((SOURCE + "/* a header */\n").encode())
    library = tmp_path / f"_a{EXTENSION_SUFFIXES[0]}"
    words = [COMPILER, f"-DVQKIT_SOURCES={known}u", "-shared", "-fPIC", "-o", library]
    subprocess.run([*words, tmp_path / "a.c"], check=True)
    return tmp_path


def test_what_was_made_of_the_files_that_are_there_is_loaded(folder: Path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load(folder, "_a", ["a.c", "a.h"]) is not None
        assert load(folder, "_b", ["a.c", "a.h"]) is None


@pytest.mark.parametrize("changed", ["a.c", "a.h"])
def test_what_was_made_of_other_files_is_left_out_with_a_warning(folder: Path, changed: str):
    with (folder / changed).open("a") as file:
        file.write("/* changed */\n")
    with pytest.warns(RuntimeWarning, match="other files than those beside it.*install vqkit"):
        assert load(folder, "_a", ["a.c", "a.h"]) is None


def test_without_the_files_it_is_loaded_as_it_is(folder: Path):
    (folder / "a.c").unlink()
    assert load(folder, "_a", ["a.c", "a.h"]) is not None
