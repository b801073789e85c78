"""What must hold for the configs of quantizers."""

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from vqkit.quantizers import (
    LatentQuantizer,
    Normalized,
    NormalizedConfig,
    Quantizer,
    QuantizerConfig,
    VectorQuantizer,
    VQConfig,
)

ADAPTER = TypeAdapter(QuantizerConfig)
CONFIGS: tuple[Any, ...] = get_args(get_args(QuantizerConfig)[0])
DIM = 4

# One value of each key that is not the default anywhere. A new key is one more line.
VALUES = {
    "annealing": {"start": 3.0, "steps": 7},
    "assignment": {"type": "sampled", "temperature": 0.5},
    "beams": 3,
    "certainty": 0.7,
    "codebook_size": 7,
    "commitment": 0.5,
    "dead_after": 3.0,
    "decay": 0.8,
    "decay_warmup": 20.0,
    "dim": 5,
    "diversity": 0.3,
    "dropout": 0.4,
    "entry_dim": 3,
    "gradient": "rotation",
    "hiding": {"share": 0.5, "block": 2},
    "how": "l2",
    "iterations": 7,
    "keep": 0.3,
    "levels": (3, 4, 5, 6),
    "metric": "cosine",
    "orthogonality": 2.0,
    "parts": 4,
    "quantizer": {"type": "latent", "levels": (2, 2, 2, 2)},
    "revive": False,
    "rounds": 9,
    "scales": (1, (2, 3), 5),
    "shared": True,
    "stages": 3,
    "start": "normal",
    "temperature": 0.3,
    "weight": 0.9,
}
# Where it arrives, if that is not the layer's attribute of the same name.
PLACES = {
    "codebook_size": lambda layer: layer.codebook_sizes[0],
    "dim": lambda layer: layer.quantizer.dim,
    "entry_dim": lambda layer: layer.entries.shape[1],
    "metric": lambda layer: layer.codebook.metric,
    "scales": lambda layer: tuple(a if a == b else (a, b) for a, b in layer.scales),
    "parts": lambda layer: len(layer.parts),
    "shared": lambda layer: len(layer.quantizers) < len(layer.parts),
    "start": lambda layer: layer.codebook.start,
    "stages": lambda layer: len(layer.parts),
}
KEYS = [(config, key) for config in CONFIGS for key in config.__pydantic_fields__ if key != "type"]


def built(config: Any, key: str) -> tuple[Any, Quantizer]:
    """A config and its layer, where a key has a value of its own and the others defaults."""
    values = {key: VALUES[key]}
    if config.__pydantic_fields__[key].default is True:  # of some it is, of others it is not
        values[key] = False
    if "levels" not in values and "levels" in config.__pydantic_fields__:
        values["levels"] = (8, 5, 5, 5)
    if key == "quantizer" and "parts" in config.__pydantic_fields__:
        values["parts"] = 1  # so that it fits the vectors' length
    if key == "quantizer" and "dim" in config.__pydantic_fields__:
        values["dim"] = DIM
    if key == "quantizer" and config.type == "additive":
        values["quantizer"] = {"type": "vq", "codebook_size": 9}
    if config.type == "random-projection":
        values.setdefault("entry_dim", DIM)
    made = ADAPTER.validate_python({"type": config.type, **values})
    return made, made.build(DIM)


def test_the_family_is_all_here():
    assert {"vq", "ema", "fsq", "residual", "projected"} <= {config.type for config in CONFIGS}


@pytest.mark.parametrize(("config", "key"), KEYS)
def test_every_key_reaches_the_layer(config: Any, key: str):
    made, layer = built(config, key)
    assert type(made) is config
    assert layer.dim == DIM
    value = getattr(made, key)
    assert value != config.__pydantic_fields__[key].default, "the default shows nothing"
    if key == "quantizer":
        (inner,) = {type(part) for part in layer.parts}  # pyright: ignore
        assert inner is (VectorQuantizer if config.type == "additive" else LatentQuantizer)
    else:
        assert PLACES.get(key, lambda layer: getattr(layer, key))(layer) == value


def test_the_normalized_may_be_any_other_itself_included():
    inner = {"type": "normalized", "how": "l2", "quantizer": {"type": "vq", "codebook_size": 8}}
    config = ADAPTER.validate_python({"type": "normalized", "quantizer": inner})
    assert config.quantizer.quantizer == VQConfig(codebook_size=8)
    layer = config.build(dim=4)
    assert isinstance(layer, Normalized)
    assert layer.codebook_sizes == (8,)
    assert (layer.how, layer.quantizer.how) == ("layernorm", "l2")


def test_a_config_survives_json():
    made = [config() for config in CONFIGS] + [built(*pair)[0] for pair in KEYS]
    for config in [*made, NormalizedConfig(quantizer=VQConfig())]:
        assert ADAPTER.validate_json(ADAPTER.dump_json(config)) == config


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("codebook_size", 1),
        ("codebook_size", 0.5),
        ("commitment", -0.1),
        ("commitment", float("nan")),
        ("decay", 1.0),
        ("decay", -0.1),
        ("codebok_size", 8),
    ],
)
def test_nonsense_is_refused_and_named(key: str, value: float):
    with pytest.raises(ValidationError, match=key):
        ADAPTER.validate_python({"type": "ema", key: value})
    with pytest.raises(ValidationError, match=rf"normalized\.quantizer\.ema\.{key}"):
        ADAPTER.validate_python({"type": "normalized", "quantizer": {"type": "ema", key: value}})


@pytest.mark.parametrize("config", CONFIGS)
def test_every_key_has_its_help(config: Any):
    fields = config.__pydantic_fields__
    assert all(field.description for name, field in fields.items() if name != "type")
