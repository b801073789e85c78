"""Squared error of vectors: its scales, what is undone, and its terms by hand."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.pair import run_pair
from torch import Tensor
from torch.testing import assert_close

from vqkit import distributed
from vqkit.autoencoder import VQVAE
from vqkit.modalities.vector import MLPConfig, SquaredErrorObjective, VectorModelConfig
from vqkit.modalities.vector.objective import Standardize
from vqkit.quantizers import VQConfig

KINDS = ("columns", "all", "none")


def data(num: int = 60, dim: int = 5) -> Tensor:
    """Columns of other means and spreads; the third is constant."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(num, dim, generator=generator) * torch.arange(1, dim + 1).float()
    x = x + 10 * torch.arange(dim)
    x[:, 2] = 7
    return x


def learned(x: Tensor, kind: str = "columns", size: int = 16) -> SquaredErrorObjective:
    objective = SquaredErrorObjective(x.shape[1], kind)  # pyright: ignore
    objective.observe(objective.normalize(part) for part in x.split(size))
    return objective


def test_each_column_gets_mean_0_and_variance_1_and_a_constant_one_only_loses_its_mean():
    x = data()
    z = learned(x).normalize(x).double()
    assert_close(z.mean(0), torch.zeros(5).double(), atol=1e-6, rtol=0)
    assert_close(z.var(0, correction=0), torch.tensor([1.0, 1, 0, 1, 1]).double())
    assert (z[:, 2] == 0).all()


def test_one_scale_for_all_keeps_the_order_of_distances():
    x = data()
    z = learned(x, "all").normalize(x).double()
    assert_close(z.var(0, correction=0).mean(), torch.tensor(1.0).double())
    ratio = (x[1:] - x[0]).double().norm(dim=1) / (z[1:] - z[0]).norm(dim=1)
    assert_close(ratio, ratio[0].expand_as(ratio))


def test_without_a_scale_vectors_stay_as_they_are():
    x = data()
    assert torch.equal(learned(x, "none").normalize(x), x)


@pytest.mark.parametrize("kind", KINDS)
def test_reconstructions_are_in_the_units_of_the_data(kind: str):
    x = data()
    objective = learned(x, kind)
    assert_close(objective.distribution(objective.normalize(x)).mode(), x)


@pytest.mark.parametrize("kind", KINDS)
def test_painting_everything_in_the_mean_costs_1(kind: str):
    x = data()
    objective = learned(x, kind)
    z = objective.normalize(x)
    mean = z.mean(0).expand_as(z)
    assert_close(objective.loss(mean, z)["reconstruction"].value, torch.tensor(1.0))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 7, 60])
def test_scales_do_not_depend_on_the_batches_and_hold_far_from_the_origin(kind: str, size: int):
    x = data().double() + 1e5
    objective = SquaredErrorObjective(5, kind).double()  # pyright: ignore
    objective.observe(objective.normalize(part) for part in x.split(size))
    variance = x.var(0, correction=0)
    scale = {"columns": variance.sqrt(), "all": variance.mean().sqrt().expand(5)}
    wanted = scale.get(kind, torch.ones(5).double())
    wanted = torch.where(variance > 0, wanted, 1) if kind == "columns" else wanted
    assert_close(objective.scale, wanted, rtol=1e-9, atol=0)
    shift = torch.zeros_like(variance) if kind == "none" else x.mean(0)
    assert_close(objective.shift, shift, rtol=1e-12, atol=0)


def test_what_was_learned_once_is_learned_again_from_normalised_vectors():
    x = data()
    once = learned(x)
    before = {name: value.clone() for name, value in once.state_dict().items()}
    once.observe([once.normalize(x)])
    assert_close(dict(once.state_dict()), before)


def scales_of_half() -> dict[str, Tensor]:
    x = data()
    rows = slice(11) if distributed.is_main() else slice(11, None)
    return dict(learned(x[rows], size=9).state_dict())


def test_two_processes_learn_the_scales_of_one(tmp_path: Path):
    first, second = run_pair(scales_of_half, tmp_path)
    assert_close(first, second, rtol=0, atol=0)
    assert_close(first, dict(learned(data()).state_dict()))


def test_vectors_that_do_not_vary_are_refused():
    with pytest.raises(ValueError, match="the vectors do not vary"):
        learned(torch.full((8, 3), 2.5))


@pytest.mark.parametrize("kind", ["columns", "all", "none"])
def test_a_mean_too_large_for_float32_is_named(kind: Standardize):
    x = (data().double() + 1e7).float()
    assert x.unique().numel() > 1
    with pytest.raises(ValueError, match=r"less than float32 can tell at 1e\+07; subtract"):
        SquaredErrorObjective(x.shape[1], kind).observe([x])


def test_vectors_of_another_length_are_refused():
    with pytest.raises(ValueError, match="the vectors have 4 numbers, the model 5"):
        learned(data()).normalize(torch.zeros(2, 4))


def test_masked_vectors_have_no_part_in_the_loss():
    x = data()
    objective, mask = learned(x), torch.arange(60) % 3 > 0
    z = objective.normalize(x)
    outputs = z + 0.1
    masked = objective.loss(outputs.masked_fill(~mask.unsqueeze(1), torch.nan), z, mask)
    packed = objective.loss(outputs[mask], z[mask])
    assert_close(masked["reconstruction"].value, packed["reconstruction"].value)
    assert masked["reconstruction"].count == packed["reconstruction"].count


def test_no_likelihood_is_claimed():
    objective = SquaredErrorObjective(3)
    assert not objective.claims_likelihood
    with pytest.raises(ValueError, match="no likelihood; read the mse"):
        objective.distribution(torch.zeros(2, 3)).log_prob(torch.zeros(2, 3))


def classic() -> tuple[VQVAE, np.ndarray]:
    """The MLP 784-128-64 with 512 entries in float64, and images as rows."""
    torch.manual_seed(0)
    network = MLPConfig(hidden=(128,), dim=64)
    config = VectorModelConfig(columns=784, network=network, quantizer=VQConfig(codebook_size=512))
    model = VQVAE.from_config(config).double()
    x = np.random.default_rng(0).integers(0, 256, (600, 784)).astype(np.float64)
    x[:, :9] = 0  # as the border of such images
    model.initialize([torch.from_numpy(x)], seed=0)
    return model, x[:40]


def test_the_terms_of_the_classic_mlp_equal_a_float64_hand_computation():
    model, x = classic()
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    out = model(torch.from_numpy(x))

    def linear(h: np.ndarray, name: str) -> np.ndarray:
        return h @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    z = (x - state["objective.shift"]) / state["objective.scale"]
    z_e = linear(np.maximum(linear(z, "encoder.0"), 0), "encoder.2")
    entries = state["quantizers.0.codebook.entries"]
    indices = ((z_e[:, None] - entries) ** 2).sum(-1).argmin(1)
    z_q = entries[indices]
    found = linear(np.maximum(linear(z_q, "decoder.0"), 0), "decoder.2")
    error = ((z_q - z_e) ** 2).mean()
    variance = (x.shape[1] - 9) / x.shape[1]  # of the standardised columns, 9 of which are constant
    reconstruction = ((found - z) ** 2).mean() / variance

    assert np.array_equal(out.codes.levels[0].indices[:, 0].numpy(), indices)
    terms = {name: mean.value.item() for name, mean in out.terms.items()}
    assert terms == pytest.approx({"codebook": error, "commitment": error}, rel=1e-12)
    objectives = {name: mean.value.item() for name, mean in out.objectives.items()}
    assert objectives["reconstruction"] == pytest.approx(reconstruction, rel=1e-12)
    assert objectives["quantizer"] == pytest.approx(1.25 * error, rel=1e-12)
    units = found * state["objective.scale"] + state["objective.shift"]
    assert_close(out.reconstruction, torch.from_numpy(units), rtol=1e-12, atol=1e-9)


def test_first_weights_are_those_of_glorot_and_bengio():
    torch.manual_seed(0)
    config = VectorModelConfig(columns=784)
    model = VQVAE.from_config(config)
    shapes = {"encoder.0": (128, 784), "encoder.2": (64, 128), "decoder.0": (128, 64)}
    for name, shape in (shapes | {"decoder.2": (784, 128)}).items():
        layer = model.get_submodule(name)
        weight, bound = layer.weight, math.sqrt(6 / sum(shape))
        assert weight.shape == shape
        assert 0.99 * bound < weight.abs().max() <= bound
        assert weight.var().item() == pytest.approx(2 / sum(shape), rel=0.05)
        assert (layer.bias == 0).all()
