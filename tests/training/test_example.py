"""The example is short, and works."""

import ast
import runpy
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "train_from_python.py"


def test_the_example_is_at_most_25_lines_of_code():
    source = EXAMPLE.read_text()
    docstring = ast.parse(source).body[0].end_lineno or 0
    assert sum(bool(line.strip()) for line in source.splitlines()[docstring:]) <= 25


@pytest.mark.slow
def test_the_example_learns_its_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), str(tmp_path)])
    names = runpy.run_path(str(EXAMPLE))
    error = names["model"](names["waves"][1920:]).reconstruction - names["waves"][1920:]
    assert error.square().mean() < 0.02
    assert (tmp_path / "model.safetensors").is_file()
