"""What must hold for the gradients of stages that have more to train than entries."""

import pytest
import torch

from vqkit.quantizers import (
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    Projected,
    Residual,
)

DIM, SIZE = 4, 16


def test_a_projection_that_nothing_would_train_is_refused():
    with pytest.raises(ValueError, match=r"put one around all stages: Projected\(Residual"):
        Residual([Projected(FiniteScalarQuantizer((5, 5)), DIM) for _ in range(2)])


def test_what_the_stages_train_by_the_decoder_gets_its_gradient():
    """Projections, and entries that have no loss of their own."""
    stages = [Projected(EMAVectorQuantizer(2, 8), DIM), GumbelQuantizer(DIM, SIZE)]
    layer = Residual(stages)
    z_e = torch.randn(100, DIM, requires_grad=True)
    gradient = torch.randn(100, DIM)
    (layer(z_e).z_q * gradient).sum().backward()
    assert torch.equal(z_e.grad, gradient)
    assert stages[0].up.weight.grad.any()
    assert stages[1].codebook.entries.grad.any()
