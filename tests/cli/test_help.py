"""Help is quick and complete."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

from vqkit.cli import app

COMMANDS = [
    "demo",
    "train",
    "evaluate",
    "inspect",
    "probe",
    "encode",
    "decode",
    "export",
    "ids",
    "train-prior",
    "sample",
    "complete",
    "config",
    "presets",
]
HEAVY = ("torch", "numpy", "yaml", "pyarrow", "PIL", "matplotlib", "accelerate")


def test_every_command_is_there_in_the_order_of_use(cli: Cli):
    assert [command.name for command in app.registered_commands] == COMMANDS
    result = cli("--help")
    assert result.code == 0
    assert re.findall(r"^│ ([a-z][a-z-]+) ", result.out, re.MULTILINE) == COMMANDS


@pytest.mark.parametrize("words", [["--help"], *([name, "--help"] for name in COMMANDS)])
def test_help_imports_nothing_heavy(words: list[str]):
    program = (
        "import sys; from vqkit.cli import run; run(sys.argv[1:]);"
        f"print('loaded:', [name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program, *words], capture_output=True, text=True, timeout=60
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("name", sorted(set(COMMANDS) - {"demo", "config", "presets"}))
def test_every_command_shows_an_example(cli: Cli, name: str):
    assert f"Example: vqkit {name} " in cli(name, "--help").out


def test_the_version_is_shown(cli: Cli):
    assert re.fullmatch(r"vqkit \d+\.\d+\.\d+\n", cli("--version").out)


def test_presets_are_listed_with_what_they_are_for(cli: Cli):
    lines = cli("presets").out.splitlines()
    names = [line.split()[0] for line in lines if line and not line.startswith("vqkit")]
    folder = Path(__file__).parents[2] / "src" / "vqkit" / "presets"
    assert sorted(names) == sorted(path.stem for path in folder.glob("*.yaml"))
    assert all(len(line.split()) > 5 for line in lines if line)


def test_config_shows_one_key_or_those_below_it(cli: Cli):
    one = cli("config", "fashion-mnist", "model.quantizer.decay").out
    assert one == (
        "model.quantizer.decay = 0.99\n"
        "    number >= 0 and < 1. Weight of the past in the running averages.\n"
    )
    names = re.findall(r"^(\S+) = ", cli("config", "cifar10", "model.quantizer").out, re.MULTILINE)
    assert "model.quantizer.type" in names
    assert all(name.startswith("model.quantizer.") for name in names)


def test_config_shows_the_default_where_a_preset_has_another_value(cli: Cli):
    found = cli("config", "digits", "model.quantizer.codebook_size").out
    assert found.startswith(
        "model.quantizer.codebook_size = 64\n    whole number >= 2; default 512."
    )


def test_config_shows_what_must_be_given_and_the_keys_of_priors(cli: Cli):
    assert "data.path = \n    text; must be given." in cli("config", "cifar10").out
    assert "prior.layers = " in cli("config", "prior-small").out


def test_the_help_of_keys_speaks_of_values_as_one_types_them(cli: Cli):
    for preset in ("photos-64", "prior-small"):
        text = cli("config", preset).out
        assert "null" in text
        assert not re.search(r"\b(None|True|False)\b", text)


def test_config_names_the_neighbours_of_a_key_that_is_not_there(cli: Cli):
    failure = cli("config", "cifar10", "decay").failure
    assert failure.startswith("cifar10 has no key decay; did you mean ")
    assert "model.quantizer.decay" in failure
