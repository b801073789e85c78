"""What must hold for saved priors, and for their configs."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError
from tests.priors.spaces import PRIORS, SPACES, make

from vqkit import storage
from vqkit.priors import Prior, PriorConfig, TransformerConfig, TransformerPrior, UniformPrior

ADAPTER: TypeAdapter[Any] = TypeAdapter(PriorConfig)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A saved Transformer."""
    make(PRIORS["transformer"], SPACES["two levels"], 3).save_pretrained(tmp_path)
    return tmp_path


def change(folder: Path, **values) -> None:
    path = folder / storage.CONFIG
    storage.write_json(path, storage.read_json(path) | values)


def test_a_prior_opens_as_its_own_class_and_as_no_other(folder: Path):
    assert type(Prior.from_pretrained(str(folder))) is TransformerPrior
    assert type(TransformerPrior.from_pretrained(folder)) is TransformerPrior
    with pytest.raises(ValueError, match="holds a TransformerPrior, not a UniformPrior"):
        UniformPrior.from_pretrained(folder)


def test_a_folder_of_another_kind_is_refused(folder: Path):
    change(folder, kind="vqvae")
    with pytest.raises(ValueError, match="a model of kind vqvae; give the folder of a prior"):
        Prior.from_pretrained(folder)


def test_a_folder_of_another_version_is_refused(folder: Path):
    change(folder, format_version=99)
    with pytest.raises(ValueError, match="format_version is 99"):
        Prior.from_pretrained(folder)


def test_an_empty_folder_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="give the folder of a finished run"):
        Prior.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    "values",
    [
        {"prior": {"type": "transformer", "depth": 3}},
        {"prior": None},
        {"specs": [{"grid": [0]}]},
        {"specs": []},
        {"conditioning": {"num_classes": 0}},
        {"conditioning": {"classes": 3}},
        {"lengths": {"extents": [[2]], "counts": []}},
    ],
    ids=str,
)
def test_a_damaged_config_is_refused_in_one_line(folder: Path, values: dict):
    change(folder, **values)
    with pytest.raises(ValueError, match="config is damaged") as caught:
        Prior.from_pretrained(folder)
    assert "\n" not in str(caught.value)


def test_weights_of_another_prior_are_refused(folder: Path):
    change(folder, conditioning={"num_classes": 4})
    with pytest.raises(ValueError, match="does not fit the model"):
        Prior.from_pretrained(folder)


def test_cut_weights_are_refused(folder: Path):
    path = folder / storage.WEIGHTS
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(ValueError, match="cut or damaged"):
        Prior.from_pretrained(folder)


def test_a_config_chooses_its_prior_by_type():
    assert ADAPTER.validate_python({"type": "transformer", "layers": 3}).layers == 3
    for config in PRIORS.values():
        assert ADAPTER.validate_python(ADAPTER.dump_python(config, mode="json")) == config


def test_an_unknown_key_is_refused():
    with pytest.raises(ValidationError, match=r"transformer\.layer\b"):
        ADAPTER.validate_python({"type": "transformer", "layer": 3})


def test_heads_that_do_not_divide_the_width_are_refused_at_their_key():
    with pytest.raises(ValidationError, match="must divide the width, 10") as caught:
        ADAPTER.validate_python({"type": "transformer", "width": 10, "heads": 4})
    assert caught.value.errors()[0]["loc"] == ("transformer", "heads")
    assert TransformerConfig(width=12, heads=3).build(SPACES["no grid"]).transformer.heads == 3


@pytest.mark.parametrize("config", PRIORS.values(), ids=PRIORS.keys())
def test_every_key_has_its_help(config: PriorConfig):
    fields = type(config).__pydantic_fields__
    assert all(field.description for name, field in fields.items() if name != "type")
