"""What must hold for saved models."""

import json
from pathlib import Path

import pytest
import torch
from pydantic import TypeAdapter
from tests.autoencoder.models import images, levels, small
from torch import nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE, hub
from vqkit.modalities.image import GaussianObjective, ImageModelConfig, LogisticMixtureConfig
from vqkit.quantizers import EMAConfig, EMAVectorQuantizer, NormalizedConfig, VQConfig


@pytest.mark.parametrize(
    "quantizer",
    [VQConfig(codebook_size=16), NormalizedConfig(quantizer=EMAConfig(codebook_size=16))],
)
def test_an_opened_model_gives_the_same_codes_and_images(tmp_path: Path, quantizer):
    model = small(quantizer, LogisticMixtureConfig(num_components=2)).eval()
    model.save_pretrained(tmp_path / "run")
    opened = VQVAE.from_pretrained(tmp_path / "run")
    codes = model.encode(images(4))
    assert torch.equal(opened.encode(images(4)).flat(), codes.flat())
    assert torch.equal(opened.decode(codes), model.decode(codes))
    assert_close(dict(opened.state_dict()), dict(model.state_dict()), rtol=0, atol=0)
    assert opened.config == model.config
    assert opened.fingerprint() == model.fingerprint()
    assert not opened.training


def test_variance_and_sigma_are_saved_with_the_model(tmp_path: Path):
    model = small()
    model.calibrate([images(4)])
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(str(tmp_path))
    assert opened.objective.claims_likelihood
    assert opened.objective.sigma == model.objective.sigma
    assert opened.objective.variance == model.objective.variance != 1


def own_model() -> VQVAE:
    return VQVAE(
        nn.Sequential(nn.Conv2d(3, 4, 4, stride=4), nn.ReLU(), nn.Conv2d(4, 4, 1)),
        EMAVectorQuantizer(4, 16),
        nn.Sequential(nn.ConvTranspose2d(4, 3, 4, stride=4)),
        GaussianObjective(),
    )


def test_a_model_of_ones_own_modules_is_saved_and_opened(tmp_path: Path):
    model = own_model()
    model.initialize([images(4)], seed=0)
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path, model=own_model())
    assert torch.equal(opened.encode(images(4)).flat(), model.encode(images(4)).flat())
    with pytest.raises(ValueError, match="give it as model="):
        VQVAE.from_pretrained(tmp_path)


def test_a_model_of_other_modules_is_refused(tmp_path: Path):
    own_model().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="does not fit the model"):
        VQVAE.from_pretrained(tmp_path, model=levels(2))


def test_a_resumed_model_trains_on_bit_for_bit(tmp_path: Path):
    model = small()
    model(images(6))
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path).train()
    for seed in range(3):
        first, second = model(images(6, seed=seed)), opened(images(6, seed=seed))
        assert torch.equal(first.loss, second.loss)
    assert_close(dict(opened.state_dict()), dict(model.state_dict()), rtol=0, atol=0)


def test_a_shared_codebook_is_saved_and_shared_again(tmp_path: Path):
    def shared() -> VQVAE:
        model = levels(2)
        book = model.quantizers[0].codebook
        quantizers = [EMAVectorQuantizer(4, 8, codebook=book) for _ in range(2)]
        return VQVAE(
            model.encoder,
            quantizers,
            model.decoder,
            GaussianObjective(),
            top_down=list(model.top_down),
        )

    model = shared()
    model.save_pretrained(tmp_path)
    opened = VQVAE.from_pretrained(tmp_path, model=shared())
    assert torch.equal(opened.encode(images(4, 1)).flat(), model.encode(images(4, 1)).flat())


def test_the_fingerprint_changes_with_what_makes_codes_and_images():
    model = small()
    before = model.fingerprint()
    for part in (model.encoder, model.decoder, model.quantizers[0]):
        parameter = next(part.parameters())
        parameter.data[0] += 1e-3
        after = model.fingerprint()
        assert after != before
        before = after


@pytest.mark.parametrize(
    "changed",
    [
        {"network": {"activation": "silu"}},
        {"quantizer": {"type": "normalized", "how": "l2"}},
    ],
)
def test_the_fingerprint_changes_with_how_the_same_weights_compute(changed: dict):
    plain = ImageModelConfig(quantizer=NormalizedConfig())
    key = next(iter(changed))
    config = TypeAdapter(ImageModelConfig).dump_python(plain, mode="json")
    other = TypeAdapter(ImageModelConfig).validate_python(
        config | {key: config[key] | changed[key]}
    )
    models = [VQVAE.from_config(one) for one in (plain, other)]
    models[1].load_state_dict(models[0].state_dict())
    assert models[0].fingerprint() != models[1].fingerprint()


def test_the_fingerprint_does_not_change_with_statistics_of_training_and_evaluation():
    model = small().eval()
    before = model.fingerprint()
    book = model.codebooks()["quantizer"]
    book.average_counts += 1
    book.step += 1
    model.calibrate([images(4)])
    assert model.fingerprint() == before
    assert model.to(memory_format=torch.channels_last).fingerprint() == before


def damage(folder: Path, kind: str) -> None:
    config = json.loads((folder / "config.json").read_text())
    if kind == "prior":
        config["kind"] = "prior"
    elif kind == "version":
        config["format_version"] = 99
    elif kind == "key":
        config["model"]["network"]["hiden"] = 3
    elif kind == "cut":
        weights = (folder / "model.safetensors").read_bytes()
        (folder / "model.safetensors").write_bytes(weights[: len(weights) // 2])
    elif kind == "sizes":
        config["model"]["network"]["hidden"] = 10
    (folder / "config.json").write_text(json.dumps(config))


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("prior", "holds a prior"),
        ("version", "format_version is 99"),
        ("key", r"config\.json: model\.network\.hiden"),
        ("cut", "cut or damaged"),
        ("sizes", "does not fit the model"),
    ],
)
def test_what_cannot_be_opened_is_refused_in_one_line(tmp_path: Path, kind: str, message: str):
    small().save_pretrained(tmp_path)
    damage(tmp_path, kind)
    with pytest.raises(ValueError, match=message) as caught:
        VQVAE.from_pretrained(tmp_path)
    assert "\n" not in str(caught.value)
    assert str(tmp_path) in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        VQVAE.from_pretrained(tmp_path / "nowhere")


def test_the_hub_gets_and_gives_what_a_folder_holds(tmp_path: Path, monkeypatch):
    model, there = small().eval(), tmp_path / "there"

    def upload(save, repo_id: str, *, private: bool) -> None:
        assert (repo_id, private) == ("me/tokenizer", True)
        save(there)

    monkeypatch.setattr(hub, "upload", upload)
    monkeypatch.setattr(hub, "download", lambda repo_id: there)
    model.push_to_hub("me/tokenizer")
    assert VQVAE.from_hub("me/tokenizer").fingerprint() == model.fingerprint()


def test_every_key_of_the_config_has_its_help():
    fields = ImageModelConfig.__pydantic_fields__
    assert all(field.description for field in fields.values())
