"""Training with several levels of codes that a config built: killed, resumed, in two processes."""

import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.training import tiny
from tests.training.test_resume import check_equal, die
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit import distributed
from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.modalities.image import ConvConfig, ImageModelConfig
from vqkit.quantizers import EMAConfig, VQConfig
from vqkit.training import fit
from vqkit.training.loop import Trainer

KEYS = {"steps": 12, "log_every": 4, "checkpoint_every": 5, "learning_rate": 0.01}


def model(levels: int) -> VQVAE:
    """Levels whose codebooks move by averages and by gradients, in turn."""
    torch.manual_seed(0)
    network = ConvConfig(
        hidden=8, residual_hidden=4, num_residual=1, downsampling=2, levels=levels, dim=4
    )
    kinds = EMAConfig(codebook_size=16, decay=0.8), VQConfig(codebook_size=24)
    quantizers = tuple(kinds[level % 2] for level in range(levels))
    return VQVAE.from_config(ImageModelConfig(channels=1, network=network, quantizers=quantizers))


def images(num: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> TensorExamples:
    generator = torch.Generator().manual_seed(seed)
    return TensorExamples(2 * torch.rand(num, 1, 16, 16, generator=generator, dtype=dtype) - 1)


def train(folder: Path, levels: int) -> None:
    config = tiny.config(**KEYS)
    fit(model(levels), images(64), config, folder=folder, eval_examples=images(8, seed=1))


def train_and_die(folder: Path, levels: int) -> None:
    """Is killed in the middle of a step that no checkpoint follows at once."""
    check = Trainer._check

    def deadly(self: Trainer, at: int, *args: int) -> int:
        if at == 8:
            die()
        return check(self, at, *args)

    Trainer._check = deadly  # pyright: ignore
    train(folder, levels)


@pytest.mark.parametrize("levels", [2, pytest.param(3, marks=pytest.mark.slow)])
def test_a_killed_run_of_levels_ends_bit_for_bit_as_one_that_was_not(tmp_path: Path, levels: int):
    assert tiny.run(train, tmp_path / "whole", levels) == 0
    assert tiny.run(train_and_die, tmp_path / "killed", levels) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    assert tiny.run(train, tmp_path / "killed", levels) == 0
    check_equal(tmp_path / "killed", tmp_path / "whole")


@pytest.mark.slow
def test_a_level_that_the_decoder_ignores_is_named_in_training_and_no_other(tmp_path: Path):
    made = model(2)
    made.decoder = Deaf(made.decoder)
    keys = {"steps": 700, "log_every": 100, "checkpoint_every": 50, "learning_rate": 3e-3}
    held_out = TensorExamples(squares(16, seed=1))
    config = tiny.config(**keys)
    fit(made, TensorExamples(squares(64)), config, folder=tmp_path, eval_examples=held_out)
    lines = tiny.lines(tmp_path)
    said = [line for entry in lines if "eval" in entry for line in entry.get("health", [])]
    assert len(said) == 1
    assert said[0].startswith("level 1 of 2, coarsest first, carries nothing")
    evaluated = [entry["eval"] for entry in lines if "eval" in entry]
    for each in evaluated:
        assert each["exchanged_mse"][0] == pytest.approx(each["mse"], rel=1e-6)
    assert evaluated[-1]["exchanged_mse"][1] > 1.2 * evaluated[-1]["mse"]


class Deaf(nn.Module):
    """A decoder that hears nothing of the coarse level."""

    def __init__(self, decoder: nn.Module) -> None:
        super().__init__()
        self.decoder = decoder

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        return self.decoder(torch.zeros_like(coarse), fine)


def squares(num: int, seed: int = 0) -> Tensor:
    """Images of 4 x 4 squares of one brightness each. (num, 1, 16, 16) in [-1, 1]"""
    generator = torch.Generator().manual_seed(seed)
    coarse = 2 * torch.rand(num, 1, 4, 4, generator=generator) - 1
    return coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)


def trained(levels: int) -> dict[str, Tensor]:
    made = model(levels).double()
    config = tiny.config(steps=10, learning_rate=0.01, micro_batches=2)
    fit(made, images(64, dtype=torch.float64), config)
    return tiny.state(made)


def half(folder: Path, levels: int) -> None:
    save_file(trained(levels), folder / f"{distributed.rank()}.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("levels", [2, 3])
def test_two_processes_with_half_the_batch_train_all_levels_as_one_does(
    tmp_path: Path, levels: int
):
    assert tiny.run_pair(half, tmp_path / "store", tmp_path, levels) == [0, 0]
    first, second = (load_file(tmp_path / f"{rank}.safetensors") for rank in range(2))
    assert_close(first, second, rtol=0, atol=0)
    alone = trained(levels)
    assert_close(first, alone, rtol=0, atol=1e-9)
    before = model(levels).double().state_dict()
    for level in range(levels):
        key = f"quantizers.{level}.codebook.entries"
        assert not torch.equal(alone[key], before[key])
