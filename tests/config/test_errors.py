"""Errors name the place, the key and the fix, in one line."""

from pathlib import Path

import pytest
from tests.config.runs import Run

from vqkit.config import load_config, load_prior_config
from vqkit.config.document import ConfigError, read, read_words
from vqkit.config.run import build

DATA = "data:\n  path: x\n"


def fault(text: str, *words: str) -> str:
    with pytest.raises(ConfigError) as error:
        build(Run, [read(text, "run.yaml"), read_words(words)])
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "model:\n  quantizer:\n    decay: 1.5\n",
            "run.yaml:5: model.quantizer.decay: must be less than 1 (you wrote 1.5)",
        ),
        ("train:\n  steps: 0\n", "run.yaml:4: train.steps: must be at least 1 (you wrote 0)"),
        ("train: {rate: 0}\n", "run.yaml:3: train.rate: must be greater than 0 (you wrote 0)"),
        ("train: {rate: .inf}\n", "run.yaml:3: train.rate: must be a number (you wrote .inf)"),
        ("train: {rate: inf}\n", "run.yaml:3: train.rate: must be a finite number (you wrote inf)"),
        ("train: {rate: 1e999}\n", "run.yaml:3: train.rate: must be a finite number"),
        ("train: {steps: 1.5}\n", "run.yaml:3: train.steps: must be a whole number"),
        ("train: {steps: many}\n", "run.yaml:3: train.steps: must be a whole number"),
        ("train: {betas: [0.9]}\n", "run.yaml:3: train.betas: must have more items"),
        ("train: {betas: 0.9}\n", "run.yaml:3: train.betas: must be a list (you wrote 0.9)"),
        ("train: {betas: [0.9, x]}\n", "run.yaml:3: train.betas.1: must be a number (you wrote x)"),
        ("train: 3\n", "run.yaml:3: train: must hold keys of its own (you wrote 3)"),
        ("model: {width: 3}\n", "run.yaml:3: model.width: must be even; give 4 (you wrote 3)"),
        (
            "model: {quantizer: {type: emma}}\n",
            "run.yaml:3: model.quantizer.type: must be one of ema, vq, wrapped (you wrote emma)",
        ),
        ("model: {quantizer: ema}\n", "run.yaml:3: model.quantizer: must hold keys of its own"),
    ],
)
def test_a_wrong_value_is_named_with_its_line(text: str, message: str):
    assert fault(DATA + text).startswith(message)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("  crop: on\n", "run.yaml:3: data.crop: must be 'center' or 'random' (you wrote on)"),
        ("  flip: maybe\n", "run.yaml:3: data.flip: must be true or false (you wrote maybe)"),
        ("  size: big\n", "run.yaml:3: data.size: must be a whole number, or a list"),
        ("  size: [1, 2, 3]\n", "run.yaml:3: data.size: must be a whole number, or"),
    ],
)
def test_a_wrong_value_of_the_data_is_named_with_its_line(text: str, message: str):
    assert fault(DATA + text).startswith(message)


def test_a_word_of_the_command_line_is_named_as_such():
    found = fault(DATA + "train: {rate: 0.1}", "train.rate=-1")
    assert found == "command line: train.rate: must be greater than 0 (you wrote -1)"


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("model.quantizer.dekay=0.9", "did you mean model.quantizer.decay?"),
        ("trian.steps=1", "did you mean train?"),
        ("rate=1", "did you mean train.rate?"),
        ("model.decay=0.5", "did you mean model.quantizer.decay?"),
        ("data.xyzzy=1", "data has path, size, crop, flip"),
    ],
)
def test_an_unknown_key_names_its_neighbours(word: str, hint: str):
    key = word.partition("=")[0].split(".")
    top = key[0] if key[0] == "trian" else ".".join(key)
    assert fault(DATA, word) == f"command line: {top}: there is no such key; {hint}"


def test_a_key_that_is_misspelt_comes_before_what_is_missing_without_it():
    found = fault("data:\n  pth: photos\n")
    assert (
        found
        == "run.yaml:2: data.pth: there is no such key; did you mean data.path?; 1 more after this"
    )


def test_a_missing_key_says_what_to_add():
    assert fault("train: {}\n") == "run.yaml: data.path: is missing; add data.path=FOLDER"
    assert fault("data:\n  crop: random\n").startswith("run.yaml:1: data.path: is missing")


def test_a_type_that_must_be_chosen_names_the_choices():
    found = fault(DATA + "model: {quantizer: {type: wrapped, inner: {type: emma}}}\n")
    assert found.startswith("run.yaml:3: model.quantizer.inner.type: must be one of ema, vq")


def test_several_faults_are_counted():
    found = fault(DATA, "train.steps=0", "train.rate=0")
    assert found.endswith("(you wrote 0); 1 more after this")


def test_what_is_neither_preset_nor_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^cifar: there is no such preset or file; did you mean"):
        load_config("cifar")
    with pytest.raises(ConfigError, match=r"run.yml: there is no such file"):
        load_config(tmp_path / "run.yml")
    with pytest.raises(ConfigError, match=r"is a folder; give the file .*config.yaml, or a preset"):
        load_config(tmp_path)
    (tmp_path / "run.yaml").write_text("preset: cifar\n")
    with pytest.raises(ConfigError, match=r"run.yaml:1: preset: must be the name of a preset"):
        load_config(tmp_path / "run.yaml")


def test_the_preset_of_a_prior_is_none_for_a_tokenizer_and_the_reverse():
    with pytest.raises(ConfigError, match=r"prior-small is for a prior; .*vqkit train-prior"):
        load_config("prior-small")
    with pytest.raises(ConfigError, match=r"cifar10 is for a tokenizer; .*vqkit train"):
        load_prior_config("cifar10")


@pytest.mark.parametrize("command", ["nothing", "a list"])
def test_a_value_without_text_of_its_own_is_shown(command: str):
    word = {"nothing": "data.path=", "a list": "data.size=[16]"}[command]
    found = fault(DATA, word)
    assert (
        found
        == {
            "nothing": "command line: data.path: must be text (you wrote nothing)",
            "a list": "command line: data.size: must be a whole number, or have more items "
            "(you wrote [16])",
        }[command]
    )


@pytest.mark.parametrize(
    ("file", "words", "where"),
    [
        ("", ["data.size=15"], "command line"),
        ("", ["model.channels=1"], "command line"),
        ("data: {size: 15}\n", [], "run.yaml:2"),
        ("model:\n  channels: 1\n", ["data.size=32"], "run.yaml:3"),
        ("data: {size: 15}\n", ["data.size=18"], "command line"),
    ],
)
def test_keys_that_do_not_go_together_are_named_where_they_were_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, words: list[str], where: str
):
    monkeypatch.chdir(tmp_path)
    Path("run.yaml").write_text(f"preset: photos-64\n{file}")
    with pytest.raises(ConfigError, match=rf"^{where}: data\.(size|channels) is "):
        load_config("run.yaml", ["data.path=x", *words])


def test_channels_and_sizes_must_agree():
    with pytest.raises(ConfigError, match=r"data.channels is 1, model.channels 3; make them equal"):
        load_config("cifar10", ["data.path=x", "data.channels=1"])
    with pytest.raises(ConfigError, match=r"data.size is 30.*multiples of 4"):
        load_config("cifar10", ["data.path=x", "data.size=30"])
