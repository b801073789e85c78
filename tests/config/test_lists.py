"""Lists of configs, such as the quantizers of several levels: in YAML and in words."""

from pathlib import Path

import pytest
import yaml

from vqkit.config import ConfigError, RunConfig, keys, load_config, resolve, save_config, written
from vqkit.modalities.image import ConvConfig, ImageModelConfig
from vqkit.quantizers import EMAConfig, FSQConfig, QuantizerConfig, ResidualConfig

LEVELS = "model.network.levels=2"
TWO = "model.quantizers=[{type: ema, codebook_size: 256}, {type: fsq}]"
SMALL = EMAConfig(codebook_size=64)


def quantizers(*words: str, source: str | Path = "photos-64") -> tuple[QuantizerConfig, ...]:
    return load_config(source, ["data.path=x", *words]).model.level_quantizers


def fault(*words: str, source: str | Path = "photos-64") -> str:
    with pytest.raises(ConfigError) as error:
        quantizers(*words, source=source)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_every_level_has_the_same_quantizer_until_others_are_listed():
    assert quantizers("model.quantizer.codebook_size=64", "model.network.levels=3") == (SMALL,) * 3
    assert quantizers(LEVELS, TWO) == (EMAConfig(codebook_size=256), FSQConfig())
    assert quantizers(LEVELS, TWO, "model.quantizers=") == (EMAConfig(),) * 2


def test_an_item_starts_from_the_defaults_of_its_type_and_so_does_what_it_holds():
    word = "model.quantizers=[{type: residual, quantizer: {codebook_size: 64}}]"
    assert quantizers(word) == (ResidualConfig(quantizer=SMALL),)


def test_one_key_of_an_item_keeps_the_others_and_the_other_items():
    found = quantizers(LEVELS, TWO, "model.quantizers.0.codebook_size=64")
    assert found == (SMALL, FSQConfig())


def test_words_change_items_that_a_file_lists(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text(
        "preset: photos-64\nmodel:\n  network: {levels: 2}\n  quantizers:\n"
        "    - {type: ema, codebook_size: 8}\n    - {type: ema, codebook_size: 9, decay: 0.5}\n"
    )
    words = ["model.quantizers.0.codebook_size=64", "model.quantizers.1.type=fsq"]
    assert quantizers(*words, source=file) == (SMALL, FSQConfig())
    found = fault("model.quantizers.1.decay=2", source=file)
    assert found.startswith("command line: model.quantizers.1.decay: must be less than 1")
    file.write_text(file.read_text().replace("0.5", "1.5"))
    assert fault(source=file) == (
        f"{file}:6: model.quantizers.1.decay: must be less than 1 (you wrote 1.5)"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["0.codebook_size=3"], ".0: is no item that can be set alone; write the whole list"),
        ([TWO, "2.codebook_size=3"], ".2: is no item that can be set alone; write the whole list"),
        ([TWO, "0.codebook_sise=3"], ".0.codebook_sise: there is no such key; did you mean model"),
        ([TWO, "0.codebook_size=1"], ".0.codebook_size: must be at least 2 (you wrote 1)"),
        ([TWO, "1.type=fsk"], ".1.type: must be one of additive, bsq, ema, fsq,"),
        (["[{type: ema}, {decay: 0.5}]"], ".1.type: is missing; say which one"),
        (["[{type: ema}, ema]"], ".1: must hold keys of its own (you wrote ema)"),
        (["ema"], ": must be a list (you wrote ema)"),
        (["{type: ema}"], ": must be a list"),
        (["[]"], ": must have at least 1 items"),
    ],
)
def test_a_wrong_item_is_named_by_its_number(words: list[str], message: str):
    whole = [
        word
        if word.startswith("model.")
        else f"model.quantizers{'.' if word[0].isdigit() else '='}{word}"
        for word in words
    ]
    assert fault(LEVELS, *whole).startswith(f"command line: model.quantizers{message}")


def test_a_number_is_no_key_of_what_is_no_list():
    assert fault("model.quantizer.0=3").startswith(
        "command line: model.quantizer.0: there is no such key; model.quantizer has codebook_size"
    )
    assert "train.betas.1: is no item that can be set alone" in fault("train.betas.1=3")


@pytest.mark.parametrize("where", ["command line", "file"])
def test_there_must_be_a_quantizer_for_each_level(tmp_path: Path, where: str):
    source, words = "photos-64", [TWO, "model.network.levels=3"]
    if where == "file":
        source, words = tmp_path / "run.yaml", []
        source.write_text(
            "preset: photos-64\nmodel:\n  network: {levels: 3}\n  quantizers: [{type: ema}, "
            "{type: ema}]\n"
        )
        where = f"{source}:3"
    assert fault(*words, source=source) == (
        f"{where}: model.quantizers has 2 for the 3 of model.network.levels; give one for each "
        "level, coarsest first, or null"
    )
    with pytest.raises(ValueError, match=r"model\.quantizers has 1 for the 2 of"):
        ImageModelConfig(network=ConvConfig(levels=2), quantizers=(EMAConfig(),))


def test_a_size_must_be_a_multiple_of_the_coarsest_stride_which_is_named():
    assert load_config("photos-64", ["data.path=x", "model.network.levels=5"])
    assert fault("model.network.levels=4", "data.size=48") == (
        "command line: data.size is 48, but one code of the coarsest level stands for 32 x 32 "
        "pixels; make it multiples of 32"
    )
    words = ["model.network.levels=2", "model.network.level_downsampling=32"]
    assert "stands for 128 x 128 pixels; make it multiples of 128" in fault(*words)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("levels", 0, "must be at least 1"),
        ("level_downsampling", 1, "must be at least 2"),
        ("level_downsampling", 6, "must be a power of two: 1, 2, 4, 8, ..."),
    ],
)
def test_what_is_no_number_of_levels_or_step_between_them_is_refused(
    key: str, value: int, message: str
):
    expected = f"command line: model.network.{key}: {message} (you wrote {value})"
    assert fault(f"model.network.{key}={value}") == expected


def test_a_saved_run_of_levels_loads_back_equal(tmp_path: Path):
    config = load_config("photos-64", ["data.path=x", LEVELS, TWO])
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == config


def test_a_run_that_was_saved_before_there_were_levels_loads_as_it_did(tmp_path: Path):
    config = load_config("photos-64", ["data.path=x"])
    save_config(config, tmp_path / "config.yaml")
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del values["model"]["quantizers"]
    del values["model"]["network"]["levels"], values["model"]["network"]["level_downsampling"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(values))
    assert load_config(tmp_path / "old.yaml") == config


def test_the_type_of_a_list_of_configs_is_told_in_words():
    found = {key.name: key for key in keys(RunConfig, resolve(RunConfig, written("photos-64")))}
    key = found["model.quantizers"]
    assert key.type.startswith("list of additive | bsq | ema | fsq")
    assert key.type.endswith(", or null")
    assert key.value == key.default == "null"
    listed = {
        key.name: key
        for key in keys(RunConfig, resolve(RunConfig, written("photos-64", [LEVELS, TWO])))
    }
    assert "{type: fsq, levels: [8, 5, 5, 5]}" in listed["model.quantizers"].value
