"""What a stranger reads is true: commands, links, sizes of files, names of presets."""

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION = 300, 60


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_of_a_page_is_one_of_vqkit(page: Path):
    from vqkit.cli import app

    commands = {command.name for command in app.registered_commands}
    lines = "\n".join(blocks(page, "sh")).splitlines()
    words = [line.split() for line in lines if line.startswith("vqkit ")]
    assert all(each[1] in commands for each in words), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_goal_of_a_page_is_in_the_makefile(page: Path):
    goals = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"^make ([a-z-]+)", page.read_text(), re.MULTILINE)) <= goals


@pytest.mark.parametrize("number", range(len(blocks(ROOT / "README.md", "python"))))
def test_the_python_of_the_readme_runs(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    program = blocks(ROOT / "README.md", "python")[number]
    program = program.replace("(1000, 3", "(100, 3").replace("steps=1000", "steps=2")
    exec(compile(program, "README.md", "exec"), {})


def test_the_readme_keeps_what_it_promises_of_length():
    layer, training = blocks(ROOT / "README.md", "python")
    assert len([line for line in layer.splitlines() if line]) <= 10
    assert len([line for line in training.splitlines() if line]) <= 20


@pytest.mark.parametrize("path", sorted((ROOT / "src/vqkit/presets").iterdir()))
def test_every_preset_is_short_and_says_what_it_is_for(path: Path):
    lines = path.read_text().splitlines()
    assert path.suffix == ".yaml"
    assert lines[0].startswith("# ")
    assert len(lines) <= 40
    assert isinstance(yaml.safe_load(path.read_text()), dict)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_short(path: Path):
    text = path.read_text()
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            assert (node.end_lineno or 0) - node.lineno < LONGEST_FUNCTION, node.name


def test_no_file_is_named_after_nothing():
    refused = {"utils.py", "common.py", "helpers.py", "misc.py"}
    assert not [path for path in SOURCES if path.name in refused]
