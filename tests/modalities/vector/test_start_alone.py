"""Vectors without a network: the start from data is all of the training."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.modalities.vector.test_training import DIM, examples, vectors
from tests.training import tiny
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.modalities.vector import IdentityConfig, VectorModelConfig
from vqkit.modalities.vector.objective import SquaredErrorConfig
from vqkit.quantizers import (
    AdditiveConfig,
    EMAConfig,
    FSQConfig,
    ProductConfig,
    QuantizerConfig,
    ResidualConfig,
    RotatedConfig,
    VQConfig,
)
from vqkit.training import fit

EMA = EMAConfig(codebook_size=8)
PARTS = ProductConfig(quantizer=EMA, parts=2)
KINDS = {
    "product": PARTS,
    "rotated": RotatedConfig(quantizer=PARTS, iterations=5),
    "residual": ResidualConfig(quantizer=EMA, stages=2),
    "additive": AdditiveConfig(quantizer=EMA, stages=2, beams=3, rounds=5),
    "fsq": FSQConfig(levels=(3,) * DIM),
}


def model(quantizer: QuantizerConfig = PARTS) -> VQVAE:
    torch.manual_seed(0)
    config = VectorModelConfig(columns=DIM, network=IdentityConfig(), quantizer=quantizer)
    return VQVAE.from_config(config)


def error(model: VQVAE) -> float:
    x = vectors()
    return float((model.decode(model.encode(x)) - x).square().mean() / x.var(0).mean())


@pytest.mark.parametrize("kind", KINDS)
def test_a_quantizer_alone_is_trained_saved_and_opened(tmp_path: Path, kind: str):
    config = tiny.config(steps=10)
    trained = fit(model(KINDS[kind]), examples(), config, folder=tmp_path, eval_examples=examples())
    assert error(trained) < 0.5
    opened = VQVAE.from_pretrained(tmp_path)
    x = vectors()
    assert torch.equal(opened.encode(x).flat(), trained.encode(x).flat())
    assert torch.equal(opened.decode(opened.encode(x)), trained.decode(trained.encode(x)))
    (line,) = tiny.lines(tmp_path)
    assert line["step"] == 10
    assert line["eval"]["num_items"] == 96
    assert "psnr" not in line["eval"]  # vectors have no largest value


def test_codebooks_are_those_of_kmeans_on_the_standardised_parts():
    trained = fit(model(), examples(), tiny.config(steps=50, batch_size=96))
    z = trained.objective.normalize(vectors())
    for part, book in zip(z.split(3, 1), trained.quantizers[0].codebooks(), strict=True):
        indices = torch.cdist(part.double(), book.entries.double()).argmin(1)
        means = torch.stack([part[indices == k].mean(0) for k in range(8)])
        assert_close(book.entries.data, means)  # nothing would move any more


def test_more_steps_have_less_error_and_the_same_run_is_the_same():
    few, many, again = (fit(model(), examples(), tiny.config(steps=n)) for n in (1, 30, 30))
    assert error(many) < error(few)
    assert_close(dict(many.state_dict()), dict(again.state_dict()), rtol=0, atol=0)


def test_a_finished_run_stays_and_with_more_steps_it_is_trained_anew(tmp_path: Path):
    first = fit(model(), examples(), tiny.config(steps=2), folder=tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()
    fit(model(), examples(), tiny.config(steps=2), folder=tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    more = fit(model(), examples(), tiny.config(steps=40), folder=tmp_path)
    alone = fit(model(), examples(), tiny.config(steps=40))
    assert_close(dict(more.state_dict()), dict(alone.state_dict()), rtol=0, atol=0)
    assert error(more) <= error(first)


def test_codebooks_of_gradients_are_trained_by_gradients():
    trained = fit(model(VQConfig(codebook_size=8)), examples(), tiny.config(steps=20))
    assert trained.quantizers[0].codebooks()[0].step == 20


def test_what_has_started_and_stays_has_nothing_to_train():
    given = fit(model(), examples(), tiny.config(steps=5))
    with pytest.raises(ValueError, match="no trainable parameters"):
        fit(given, examples(), tiny.config(steps=5))


def test_one_scale_for_all_or_none_are_possible():
    for kind in ("all", "none"):
        objective = SquaredErrorConfig(standardize=kind)  # pyright: ignore
        config = VectorModelConfig(
            columns=DIM, network=IdentityConfig(), quantizer=PARTS, objective=objective
        )
        assert error(fit(VQVAE.from_config(config), examples(), tiny.config(steps=20))) < 0.5


def trained(folder: Path, kind: str) -> None:
    fit(model(KINDS[kind]), examples(), tiny.config(steps=10, batch_size=16), folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_two_processes_equal_one(tmp_path: Path, kind: str):
    assert tiny.run_pair(trained, tmp_path / "store", tmp_path / "pair", kind) == [0, 0]
    trained(tmp_path / "alone", kind)
    found, alone = (load_file(tmp_path / n / "model.safetensors") for n in ("pair", "alone"))
    assert_close(found, alone, rtol=0, atol=1e-5)
