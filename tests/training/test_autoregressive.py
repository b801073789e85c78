"""Decoders that predict one pixel after another train as all others do."""

from pathlib import Path

import pytest
import torch
from tests.autoencoder.models import images
from tests.autoencoder.test_autoregressive import KINDS, every_kind
from tests.training import tiny

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.evaluation import evaluate, write_report
from vqkit.modalities.image import ConvConfig, ImageModelConfig, LogisticMixtureConfig
from vqkit.quantizers import EMAConfig
from vqkit.training import fit
from vqkit.training.loop import Trainer

STEPS = 12


def model(kind, dropout: float = 0.0) -> VQVAE:
    torch.manual_seed(0)
    return VQVAE.from_config(
        ImageModelConfig(
            channels=1,
            network=ConvConfig(hidden=8, residual_hidden=4, downsampling=2, dim=4),
            quantizer=EMAConfig(codebook_size=8),
            decoder=type(kind)(**{**vars(kind), "dropout": dropout}),
            objective=LogisticMixtureConfig(num_components=2),
        )
    )


def examples(num: int = 32, *, ragged: bool = False) -> TensorExamples:
    pictures = images(num, 1, size=8)
    cut = [(8, 8), (8, 6), (4, 8)] if ragged else [(8, 8)]
    sizes = [cut[i % len(cut)] for i in range(num)]
    return TensorExamples([x[:, :h, :w] for x, (h, w) in zip(pictures, sizes, strict=True)])


def train(folder: Path, kind, **keys) -> VQVAE:
    defaults = {"steps": STEPS, "log_every": 1, "checkpoint_every": 5, "learning_rate": 3e-3}
    config = tiny.config(**(defaults | keys))
    return fit(model(kind, 0.1), examples(), config, folder=folder, eval_examples=examples(8))


@every_kind
def test_training_lowers_the_bits_and_logs_them_for_both_splits(
    kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def refuse(self, h):
        raise AssertionError("an image was drawn in training")

    monkeypatch.setattr(type(model(kind).decoder), "stepper", refuse)
    train(tmp_path, kind, steps=60, learning_rate=1e-2)
    lines = tiny.lines(tmp_path)
    bits = [line["bits_per_dim"] for line in lines if "bits_per_dim" in line]
    assert len(bits) == 60
    assert sum(bits[-10:]) < sum(bits[:10]) - 5
    assert bits[-1] < 8
    assert any("bits_per_dim" in line.get("eval", {}) for line in lines)
    assert not any("mse" in line or "psnr" in line for line in lines)


@pytest.mark.parametrize("name", ["pixelcnn with attention", "transformer"])
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kind = KINDS[name]
    train(tmp_path / "whole", kind)
    check = Trainer._check

    def stop(self: Trainer, at: int, *args) -> int:
        if at == 8:
            raise KeyboardInterrupt
        return check(self, at, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_check", stop)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "killed", kind)
    train(tmp_path / "killed", kind)
    whole, killed = (
        (tmp_path / folder / "model.safetensors").read_bytes() for folder in ("whole", "killed")
    )
    assert whole == killed
    assert tiny.lines(tmp_path / "whole") == tiny.lines(tmp_path / "killed")


@every_kind
def test_micro_batches_are_one_step_of_the_whole_batch(kind, tmp_path: Path):
    losses = []
    for parts in (1, 4):
        folder = tmp_path / str(parts)
        config = tiny.config(steps=3, log_every=1, micro_batches=parts, learning_rate=1e-3)
        fit(model(kind, 0.1).double(), examples(), config, folder=folder)
        losses.append([line["loss"] for line in tiny.lines(folder) if "loss" in line])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


@every_kind
def test_images_of_unequal_sizes_train(kind, tmp_path: Path):
    config = tiny.config(steps=40, log_every=1, learning_rate=1e-2)
    fit(model(kind, 0.1), examples(ragged=True), config, folder=tmp_path)
    bits = [line["bits_per_dim"] for line in tiny.lines(tmp_path) if "bits_per_dim" in line]
    assert sum(bits[-10:]) < sum(bits[:10]) - 2


@every_kind
def test_an_evaluation_measures_bits_and_draws_the_shown_items_alone(
    kind, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    trained = train(tmp_path, kind)
    drawn = []
    stepper = type(trained.decoder).stepper

    def counting(self, h):
        drawn.append(len(h))
        return stepper(self, h)

    monkeypatch.setattr(type(trained.decoder), "stepper", counting)
    split = examples(23)
    found = evaluate(trained, split, batch_size=5, num_shown=4, num_entries=3)
    metrics = found.metrics
    assert drawn == [4, 3]
    assert not {"mse", "psnr_db", "ssim"} & metrics.keys()
    assert {"bits_per_dim_uniform", "code_reliance_bits_per_dim"} <= metrics.keys()
    whole = torch.stack([split.example(i).x for i in range(23)])
    with torch.no_grad():
        nats = -trained.distribution(trained.encode(whole)).log_prob(whole).sum()
    expected = nats.item() / 0.6931471805599453 / whole.numel()
    assert metrics["decoder_bits_per_dim"] == pytest.approx(expected, rel=1e-5)
    text = write_report(tmp_path, found, title="run").read_text()
    assert "Saved by the own codes" in text
    assert "Bits/dim" in text
