"""The example in one file is the library's method, number by number."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vqkit.autoencoder import VQVAE
from vqkit.modalities.image import ConvConfig, ImageModelConfig
from vqkit.quantizers import EMAConfig

PATH = Path(__file__).parents[2] / "examples" / "minimal.py"


@pytest.fixture
def minimal() -> ModuleType:
    spec = importlib.util.spec_from_file_location("minimal", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def twins(minimal: ModuleType, dtype: torch.dtype) -> tuple[nn.Module, VQVAE]:
    """The example's model and the library's, with the same weights, entries and statistics."""
    torch.manual_seed(0)
    theirs = VQVAE.from_config(
        ImageModelConfig(
            channels=1,
            network=ConvConfig(
                hidden=minimal.HIDDEN,
                residual_hidden=minimal.RESIDUAL,
                downsampling=2,
                dim=minimal.DIM,
            ),
            quantizer=EMAConfig(codebook_size=minimal.CODEBOOK_SIZE, revive=False),
        )
    )
    theirs.initialize([pictures(200)], seed=0)
    ours = minimal.VQVAE()
    for part in ("encoder", "decoder"):
        pairs = zip(
            getattr(ours, part).parameters(), getattr(theirs, part).parameters(), strict=True
        )
        for own, their in pairs:
            own.data.copy_(their)
    book = theirs.codebooks()["quantizer"]
    ours.quantizer.entries.copy_(book.entries)
    ours.quantizer.counts.copy_(book.average_counts)
    ours.quantizer.sums.copy_(book.average_sums)
    return ours.to(dtype), theirs.to(dtype)


def pictures(num: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(num, 1, 8, 8, generator=generator) * 2 - 1


def codebook(ours: nn.Module, theirs: VQVAE) -> list[tuple[torch.Tensor, torch.Tensor]]:
    book, own = theirs.codebooks()["quantizer"], ours.quantizer
    pairs = [(own.entries, book.entries), (own.counts, book.average_counts)]
    return [*pairs, (own.sums, book.average_sums)]


def test_outputs_loss_gradients_and_codebook_equal_the_librarys(minimal: ModuleType):
    ours, theirs = twins(minimal, torch.float32)
    x = pictures(32)
    out = theirs(x)
    out.loss.backward()
    outputs, loss, z_e, codes = ours(x, theirs.objective.variance)
    loss.backward()
    ours.quantizer.update(z_e, codes)
    assert torch.equal(codes, out.codes.levels[0].indices.squeeze(-1))
    assert len(codes.unique()) > 20
    assert_close(outputs, out.distribution.mean, rtol=0, atol=1e-6)
    assert_close(loss, out.loss, rtol=0, atol=1e-6)
    for part in ("encoder", "decoder"):
        pairs = zip(
            getattr(ours, part).parameters(), getattr(theirs, part).parameters(), strict=True
        )
        for own, their in pairs:
            assert_close(own.grad, their.grad, rtol=0, atol=1e-6)
    for own, their in codebook(ours, theirs):
        assert_close(own, their, rtol=0, atol=1e-6)


def test_twenty_steps_of_training_equal_the_librarys(minimal: ModuleType):
    ours, theirs = twins(minimal, torch.float64)
    own_optimizer = torch.optim.Adam(ours.parameters(), lr=1e-3)
    optimizer = torch.optim.Adam([p for p in theirs.parameters() if p.requires_grad], lr=1e-3)
    for step in range(20):
        x = pictures(32, seed=step).double()
        loss, _ = minimal.train_step(ours, own_optimizer, x, theirs.objective.variance)
        out = theirs(x)
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        assert_close(loss, out.loss, rtol=0, atol=1e-6)
    for own, their in codebook(ours, theirs):
        assert_close(own, their, rtol=1e-6, atol=1e-6)


def test_it_is_one_short_file_that_stands_alone():
    lines = PATH.read_text().splitlines()
    assert len(lines) <= 150
    assert not any("vqkit" in line for line in lines)


@pytest.mark.slow
def test_it_learns_digits_in_seconds():
    pytest.importorskip("sklearn")
    run = subprocess.run([sys.executable, PATH], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    error = float(run.stdout.split("error / variance ")[1].split()[0])
    assert error < 0.1
