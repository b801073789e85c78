"""Autoencoders of vectors: masks, resume, and any number of processes."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tests.training import tiny
from torch import Tensor
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.modalities.vector import MLPConfig, VectorModelConfig
from vqkit.quantizers import EMAConfig, QuantizerConfig, ResidualConfig, VQConfig
from vqkit.training import fit

DIM = 6
EMA = EMAConfig(codebook_size=8)
QUANTIZERS = {
    "vq": VQConfig(codebook_size=8),
    "ema": EMA,
    "residual": ResidualConfig(quantizer=EMA, stages=2),
}


def model(quantizer: QuantizerConfig = EMA, dtype: torch.dtype = torch.float32) -> VQVAE:
    torch.manual_seed(0)
    network = MLPConfig(hidden=(8,), dim=4, activation="tanh")
    config = VectorModelConfig(columns=DIM, network=network, quantizer=quantizer)
    return VQVAE.from_config(config).to(dtype)


def vectors(num: int = 96, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    mixed = torch.randn(num, 3, generator=generator) @ torch.randn(3, DIM, generator=generator)
    return mixed.to(dtype) + 5


def examples(dtype: torch.dtype = torch.float32) -> TensorExamples:
    return TensorExamples(list(vectors(dtype=dtype)))


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_masked_batch_equals_its_packed_batch(kind: str):
    one, other = (model(QUANTIZERS[kind], torch.float64) for _ in range(2))
    x = vectors(dtype=torch.float64)
    for each in (one, other):
        each.initialize([x], seed=0)
    mask = torch.rand(96, generator=torch.Generator().manual_seed(1)) > 0.3
    masked = one(x.masked_fill(~mask.unsqueeze(1), torch.nan), mask)
    packed = other(x[mask])
    for name, mean in packed.objectives.items():
        assert_close(masked.objectives[name].value, mean.value)
    assert_close(masked.reconstruction[mask], packed.reconstruction)
    level, own = masked.codes.levels[0], packed.codes.levels[0]
    assert torch.equal(level.indices[mask], own.indices)
    for out in (masked, packed):
        sum(mean.value for mean in out.objectives.values()).backward()  # pyright: ignore
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    assert all(torch.allclose(a.grad, b.grad) for a, b in pairs if a.grad is not None)


def test_the_shape_of_the_data_decides_the_number_of_columns():
    config = VectorModelConfig()
    with pytest.raises(ValueError, match=r"model\.columns is null"):
        VQVAE.from_config(config)
    assert config.fitted((12,)).columns == 12
    assert VectorModelConfig(columns=3).fitted((12,)).columns == 3


def test_training_lowers_the_error_and_the_saved_model_is_the_trained_one(tmp_path: Path):
    trained = fit(model(), examples(), tiny.config(steps=150), folder=tmp_path)
    opened = VQVAE.from_pretrained(tmp_path)
    x = vectors()
    assert torch.equal(opened.decode(opened.encode(x)), trained.decode(trained.encode(x)))
    error = (opened.decode(opened.encode(x)) - x).square().mean() / x.var(0).mean()
    assert error < 0.4


@pytest.mark.parametrize("kind", QUANTIZERS)
def test_a_run_that_was_stopped_goes_on_bit_for_bit(tmp_path: Path, kind: str):
    keys = {"steps": 12, "checkpoint_every": 5, "keep_checkpoints": 9}
    whole = fit(model(QUANTIZERS[kind]), examples(), tiny.config(**keys), folder=tmp_path / "a")
    shutil.copytree(
        tmp_path / "a" / "checkpoints" / "step-00000005", tmp_path / "b/checkpoints/step-00000005"
    )
    again = fit(model(QUANTIZERS[kind]), examples(), tiny.config(**keys), folder=tmp_path / "b")
    assert_close(dict(whole.state_dict()), dict(again.state_dict()), rtol=0, atol=0)


def trained_in_float64(folder: Path, kind: str) -> None:
    data = examples(torch.float64)
    config = tiny.config(batch_size=16)
    fit(model(QUANTIZERS[kind], torch.float64), data, config, folder=folder)


@pytest.mark.slow
@pytest.mark.parametrize("kind", QUANTIZERS)
def test_two_processes_with_half_the_batch_equal_one(tmp_path: Path, kind: str):
    pair = tiny.run_pair(trained_in_float64, tmp_path / "store", tmp_path / "pair", kind)
    assert pair == [0, 0]
    trained_in_float64(tmp_path / "alone", kind)
    found, alone = (load_file(tmp_path / n / "model.safetensors") for n in ("pair", "alone"))
    assert_close(found, alone, rtol=0, atol=1e-9)
