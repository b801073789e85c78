"""Merging: defaults, then the preset, then the file, then the words of the command line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from tests.config.runs import Ema, Model, Run, Train, Vq, Wrapped

from vqkit.autoencoder import VQVAE
from vqkit.config import (
    PriorRunConfig,
    RunConfig,
    load_config,
    load_prior_config,
    preset_names,
    preset_summary,
    save_config,
)
from vqkit.config.document import ConfigError, read, read_words
from vqkit.config.merge import defaults
from vqkit.config.run import build
from vqkit.priors import PriorConfig
from vqkit.quantizers import EMAConfig, NormalizedConfig, VQConfig

LEVELS = {"clothing-hierarchy": (16, 8, 4), "tiny-imagenet-hierarchy": (8, 4)}
PRESETS = [name for name in preset_names() if not name.startswith("prior-")]


def run(text: str, *words: str) -> Run:
    return build(Run, [read("data: {path: x}\n" + text, "run.yaml"), read_words(words)])


def test_the_file_counts_more_than_defaults_and_words_more_than_the_file():
    found = run("train:\n  steps: 5\n  rate: 0.5\n", "train.rate=1e-4")
    assert found.train == Train(steps=5, rate=1e-4)


def test_one_key_of_a_union_keeps_the_others_of_the_default():
    assert run("", "model.quantizer.decay=0.5").model == Model(quantizer=Ema(size=256, decay=0.5))


def test_a_changed_type_drops_the_keys_of_the_other_member():
    found = run("model: {quantizer: {decay: 0.5, size: 64}}\n", "model.quantizer.type=vq")
    assert found.model.quantizer == Vq()


def test_the_same_type_written_out_drops_nothing():
    found = run("model: {quantizer: {decay: 0.5}}\n", "model.quantizer.type=ema")
    assert found.model.quantizer == Ema(size=256, decay=0.5)


def test_a_union_inside_a_new_member_starts_from_its_own_default():
    words = ["model.quantizer.type=wrapped", "model.quantizer.inner.decay=0.25"]
    assert run("", *words).model.quantizer == Wrapped(inner=Ema(decay=0.25))


def test_a_section_of_comments_is_no_section():
    assert run("train:\n  # steps: 5\n").train == Train()


def test_an_optional_value_may_be_set_back_to_null():
    assert run("", "data.size=[4, 8]").data.size == (4, 8)
    assert build(Run, [read("data: {path: x, size: 4}", "run.yaml"), read_words(["data.size="])])


def test_text_is_taken_as_written_where_text_is_wanted():
    assert run("", "data.path=007").data.path == "007"
    assert run("", "data.path=1e-3").data.path == "1e-3"
    assert run("", "data.path=no").data.path == "no"
    assert run("", "train.trackers=[1, true]").train.trackers == ("1", "true")


def test_true_has_many_words_where_truth_is_wanted():
    assert run("", "data.flip=yes").data.flip
    assert not run("", "data.flip=off").data.flip


def test_what_must_be_given_has_no_default():
    assert "path" not in defaults(Run)["data"]
    assert defaults(Run)["model"]["quantizer"] == {"type": "ema", "size": 256, "decay": 0.99}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_whole_run_but_for_its_data(name: str):
    words = [] if name == "digits" else ["data.path=photos"]
    config = load_config(name, words)
    assert config.data.type == config.model.type
    VQVAE.from_config(config.model.fitted((32, 32, 32)))


def test_the_type_of_the_data_is_that_of_the_model_and_the_other_way_round():
    words = ["data.path=a.npy", "train.steps=1"]
    for word in ("data.type=vector", "model.type=vector"):
        config = load_config("vectors", [*words, word])
        assert (config.data.type, config.model.type) == ("vector", "vector")
    with pytest.raises(ConfigError, match=r"data.type is image, model.type vector; make"):
        load_config("vectors", [*words, "data.type=image"])


def test_a_preset_without_data_says_so_in_one_line():
    message = r"^data.path is missing; write data.path=FOLDER$"
    with pytest.raises(ConfigError, match=message):
        load_config("cifar10")


@pytest.mark.parametrize("name", sorted(set(preset_names()) - set(PRESETS)))
def test_a_preset_of_a_prior_needs_only_tokens(name: str):
    assert load_prior_config(name, ["tokens.path=tokens"]).tokens.path == "tokens"


def test_each_type_of_prior_has_a_preset():
    union = get_args(get_args(PriorConfig)[0])
    types = {each().type for each in union}
    names = set(preset_names()) - set(PRESETS)
    assert {load_prior_config(name, ["tokens.path=x"]).prior.type for name in names} == types


def test_the_cifar_preset_is_the_set_up_of_the_figures():
    config = load_config("cifar10", ["data.path=x"])
    network = config.model.network
    assert (network.hidden, network.num_residual, network.residual_hidden) == (128, 2, 32)
    assert (network.dim, config.model.quantizer.codebook_size) == (64, 512)
    assert isinstance(config.model.quantizer, EMAConfig)
    assert (config.train.batch_size, config.train.steps) == (32, 10_000)


@pytest.mark.parametrize("name", LEVELS)
def test_a_preset_of_levels_has_the_grids_that_its_first_line_tells(name: str):
    config = load_config(name, ["data.path=x"])
    assert config.model.network.strides == LEVELS[name]
    size = config.data.size
    assert isinstance(size, int)
    summary = preset_summary(name)
    assert f"{size} x {size}" in summary
    for stride in LEVELS[name]:
        assert f"{size // stride} x {size // stride}" in summary


def test_a_file_may_start_from_a_preset(tmp_path: Path):
    file = tmp_path / "run.yaml"
    file.write_text("preset: cifar10\ndata: {path: x}\nmodel: {quantizer: {type: vq}}\n")
    found = load_config(file, ["train.steps=3"])
    assert found.model.quantizer == VQConfig()
    assert (found.train.batch_size, found.train.steps) == (32, 3)


def test_a_quantizer_may_hold_another():
    words = ["model.quantizer.type=normalized", "model.quantizer.quantizer.decay=0.5"]
    found = load_config("digits", words).model.quantizer
    assert isinstance(found, NormalizedConfig)
    assert found.quantizer == EMAConfig(decay=0.5)


@pytest.mark.parametrize("source", [*PRESETS, None])
def test_a_saved_run_loads_back_equal(source: str | None, tmp_path: Path):
    path = tmp_path / "config.yaml"
    config: RunConfig | PriorRunConfig
    if source is None:
        config = load_prior_config(None, ["tokens.path=1e-3", "train.learning_rate=1e-7"])
        save_config(config, path)
        assert load_prior_config(path) == config
        return
    words = ["data.path=no", "data.split_seed=3", "train.ema_decay=0.9"]
    config = load_config(source, words)
    save_config(config, path)
    assert load_config(path) == config


def test_a_decoder_of_one_pixel_after_another_needs_a_likelihood_in_one_line():
    with pytest.raises(ConfigError) as error:
        load_config("cifar10", ["data.path=x", "model.decoder.type=pixelcnn"])
    assert "objective.type=logistic_mixture" in str(error.value)
    assert "\n" not in str(error.value)


def test_the_decoder_is_chosen_by_its_type_and_has_its_own_keys():
    words = ["data.path=x", "model.decoder.type=transformer", "model.decoder.width=32"]
    config = load_config("cifar10-pixelcnn", words)
    assert config.model.decoder.type == "transformer"
    assert config.model.decoder.width == 32
    assert config.model.decoder.layers == 4  # its own, and not the preset's of another type


@pytest.mark.parametrize("load", [load_prior_config, load_config])
def test_attention_that_no_layer_reaches_is_refused(load: Callable[..., Any]):
    words = {
        load_prior_config: ["prior-pixelcnn", ["tokens.path=x", "prior.layers=3"]],
        load_config: ["cifar10-pixelcnn", ["data.path=x", "model.decoder.attention_every=50"]],
    }[load]
    with pytest.raises(ConfigError, match=r"attention_every.*must be at most the number of layers"):
        load(*words)
