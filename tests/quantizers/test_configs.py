"""What must hold for the configs of quantizers."""

import pytest
from pydantic import TypeAdapter, ValidationError

from vqkit.quantizers import (
    EMAConfig,
    EMAVectorQuantizer,
    Normalized,
    NormalizedConfig,
    QuantizerConfig,
    Sampled,
    VectorQuantizer,
    VQConfig,
)

ADAPTER = TypeAdapter(QuantizerConfig)


VALUES = {
    "codebook_size": 7,
    "commitment": 0.5,
    "metric": "cosine",
    "gradient": "rotation",
    "assignment": Sampled(temperature=0.5),
    "revive": False,
    "dead_after": 3.0,
}
EMA_VALUES = {**VALUES, "decay": 0.8, "decay_warmup": 20.0}


@pytest.mark.parametrize(
    ("config", "values", "layer"),
    [(VQConfig, VALUES, VectorQuantizer), (EMAConfig, EMA_VALUES, EMAVectorQuantizer)],
)
def test_every_key_reaches_the_layer(config: type, values: dict[str, float], layer: type):
    assert set(config.__pydantic_fields__) == {"type", *values}
    built = ADAPTER.validate_python({"type": config.type, **values}).build(dim=4)
    assert type(built) is layer
    assert (built.dim, built.codebook_sizes) == (4, (7,))
    for key, value in values.items():
        owner = built.codebook if key == "metric" else built
        assert key == "codebook_size" or getattr(owner, key) == value


def test_the_normalized_may_be_any_other_itself_included():
    inner = {"type": "normalized", "how": "l2", "quantizer": {"type": "vq", "codebook_size": 8}}
    config = ADAPTER.validate_python({"type": "normalized", "quantizer": inner})
    assert config.quantizer.quantizer == VQConfig(codebook_size=8)
    layer = config.build(dim=4)
    assert isinstance(layer, Normalized)
    assert layer.codebook_sizes == (8,)
    assert (layer.how, layer.quantizer.how) == ("layernorm", "l2")


def test_a_config_survives_json():
    for config in (VQConfig(), EMAConfig(decay=0.5), NormalizedConfig(quantizer=VQConfig())):
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


@pytest.mark.parametrize("config", [EMAConfig, NormalizedConfig, VQConfig])
def test_every_key_has_its_help(config: type):
    fields = config.__pydantic_fields__
    assert all(field.description for name, field in fields.items() if name != "type")
