"""What must hold for steps that are made orthogonal."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from vqkit.training.muon import FACTORS, STEPS, Muon, orthogonal


@pytest.mark.parametrize("shape", [(5, 9), (9, 5), (6, 6), (1, 7), (7, 1)])
def test_singular_vectors_stay_and_singular_values_become_about_one(shape: tuple[int, int]):
    torch.manual_seed(0)
    x = torch.randn(shape, dtype=torch.float64)
    left, values, right = torch.linalg.svd(x, full_matrices=False)
    wanted = values / values.norm()
    for _ in range(STEPS):
        wanted = sum(c * wanted ** (2 * i + 1) for i, c in enumerate(FACTORS))
    assert_close(orthogonal(x), left @ torch.diag(wanted) @ right, rtol=1e-9, atol=1e-9)
    if min(shape) < max(shape):
        assert 0.6 < wanted.min() <= wanted.max() < 1.25


def test_the_size_of_a_gradient_does_not_matter_and_nothing_stays_nothing():
    torch.manual_seed(0)
    x = torch.randn(4, 6)
    for factor in (1e-20, 1e-3, 1e15):
        assert_close(orthogonal(factor * x), orthogonal(x))
    assert torch.equal(orthogonal(torch.zeros(4, 6)), torch.zeros(4, 6))


def test_matrices_move_as_by_the_optimizer_of_torch():
    """Which takes no kernels, and computes in half precision."""
    torch.manual_seed(0)
    ours, theirs = nn.Linear(20, 12, bias=False), nn.Linear(20, 12, bias=False)
    theirs.load_state_dict(ours.state_dict())
    groups = [{"params": [ours.weight], "weight_decay": 0.1, "matrices": True}]
    mine = Muon(groups, 0.01, (0.9, 0.999))
    other = torch.optim.Muon(
        theirs.parameters(), lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )
    start = ours.weight.detach().clone()
    for _ in range(10):
        gradient = torch.randn(12, 20)
        for layer, optimizer in ((ours, mine), (theirs, other)):
            layer.weight.grad = gradient.clone()
            optimizer.step()
    moved, expected = ours.weight - start, theirs.weight - start
    assert (moved - expected).norm() < 0.03 * expected.norm()


def test_a_kernel_moves_as_the_matrix_of_its_rows():
    torch.manual_seed(0)
    kernel = torch.randn(4, 3, 2, 2)
    shaped, flat = nn.Parameter(kernel.clone()), nn.Parameter(kernel.flatten(1).clone())
    shaped.data = shaped.data.contiguous(memory_format=torch.channels_last)
    gradient = torch.randn_like(kernel)
    for parameter in (shaped, flat):
        parameter.grad = gradient.view(parameter.shape)
        Muon([{"params": [parameter], "matrices": True}], 0.1, (0.9, 0.999)).step()
    assert_close(shaped.flatten(1), flat)
    assert not torch.equal(shaped, kernel)


def test_all_else_moves_as_by_adam():
    torch.manual_seed(0)
    layers = [nn.Linear(3, 3) for _ in range(2)]
    layers[1].load_state_dict(layers[0].state_dict())
    groups = [
        {"params": [layers[0].weight], "matrices": True},
        {"params": [layers[0].bias], "weight_decay": 0.0},
    ]
    mine = Muon(groups, 0.01, (0.8, 0.9))
    other = torch.optim.AdamW([layers[1].bias], lr=0.01, betas=(0.8, 0.9), weight_decay=0)
    x = torch.randn(5, 3)
    for _ in range(3):
        for layer, optimizer in zip(layers, (mine, other), strict=True):
            layer.zero_grad()
            layer(x).sum().backward()  # the bias has the same gradient in both
            optimizer.step()
    assert_close(layers[0].bias, layers[1].bias)
    assert not torch.equal(layers[0].weight, layers[1].weight)
