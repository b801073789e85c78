"""``vqkit config``: every key, straight from the configs."""

import pytest
from tests.config.runs import Run

from vqkit.config import PriorRunConfig, RunConfig, keys
from vqkit.config.document import read_words
from vqkit.config.run import resolve


def listed(*words: str) -> dict:
    return {key.name: key for key in keys(Run, resolve(Run, [read_words(words)]))}


def test_every_key_is_listed_once_with_type_range_default_and_meaning():
    found = listed("train.rate=0.5")
    assert list(found) == [
        "data.path",
        "data.size",
        "data.crop",
        "data.flip",
        "model.quantizer.type",
        "model.quantizer.size",
        "model.quantizer.decay",
        "model.width",
        "train.steps",
        "train.rate",
        "train.betas",
        "train.trackers",
    ]
    rate = found["train.rate"]
    assert (rate.type, rate.value, rate.default) == ("number > 0", "0.5", "0.001")
    assert rate.meaning == "Learning rate."
    assert found["data.path"].default == found["data.path"].value == ""


@pytest.mark.parametrize(
    ("name", "type"),
    [
        ("data.path", "text"),
        ("data.size", "whole number, or [whole number, whole number], or null"),
        ("data.crop", "center | random"),
        ("data.flip", "true or false"),
        ("model.quantizer.type", "ema | vq | wrapped"),
        ("model.quantizer.decay", "number >= 0 and < 1"),
        ("train.betas", "[number, number]"),
        ("train.trackers", "list of text"),
    ],
)
def test_a_type_is_told_in_words(name: str, type: str):
    assert listed()[name].type == type


def test_the_keys_are_those_of_the_member_that_is_chosen():
    found = listed("model.quantizer.type=wrapped")
    assert "model.quantizer.inner.decay" in found
    assert "model.quantizer.decay" not in found
    assert found["model.quantizer.type"].value == "wrapped"


@pytest.mark.parametrize("kind", [RunConfig, PriorRunConfig])
def test_every_key_of_vqkit_has_a_meaning(kind: type):
    assert [key.name for key in keys(kind, resolve(kind, [])) if not key.meaning] == []
