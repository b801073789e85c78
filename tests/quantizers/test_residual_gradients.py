"""What must hold for the gradients of stages that are compositions, or have more to train."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import (
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    MultiScaleResidual,
    Product,
    Projected,
    Quantizer,
    Regularized,
    Residual,
    VectorQuantizer,
)
from vqkit.quantizers.gradients import GRADIENTS, Gradient

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


def part(gradient: Gradient, dim: int = DIM) -> VectorQuantizer:
    return VectorQuantizer(dim, SIZE, gradient=gradient, commitment=0)


STAGES: dict[str, Callable[[Gradient], Quantizer]] = {
    "product": lambda gradient: Product([part(gradient, 1), part(gradient, 3)]),
    "heads": lambda gradient: Product([part(gradient, 2)] * 2),
    "residual": lambda gradient: Residual([part(gradient), part(gradient)]),
    "regularized": lambda gradient: Regularized(Product([part(gradient, 2), part(gradient, 2)])),
}
HOLDERS: dict[str, Callable[[list[Quantizer]], Quantizer]] = {
    "residual": Residual,
    "scales": lambda stages: MultiScaleResidual(stages, [(2,), (5,)]),
}


def decoders_gradients(layer: Quantizer, z_e: Tensor, z_q: Tensor) -> list[Tensor | None]:
    """What a decoder that asks for short vectors sends to the encoder and to the entries."""
    leaves = [z_e, *(book.entries for book in dict.fromkeys(layer.codebooks()))]
    total = (z_q * torch.arange(DIM)).sum() + z_q.square().sum()
    return list(torch.autograd.grad(total, leaves, allow_unused=True))


@pytest.mark.parametrize("gradient", GRADIENTS)
@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("holder", HOLDERS)
def test_the_gradient_of_all_that_is_inside_the_stages_is_that_of_their_sum(
    gradient: Gradient, stage: str, holder: str
):
    layer = HOLDERS[holder]([STAGES[stage](gradient) for _ in range(2)])
    layer.initialize(torch.randn(100, 5, DIM), seed=0)
    layer.commit_in_forward = False
    z_e = torch.randn(20, 5, DIM, requires_grad=True)
    out = layer(z_e)
    with_entries = layer.decode(out.indices)
    expected = GRADIENTS[gradient](z_e, with_entries)
    found = decoders_gradients(layer, z_e, out.z_q)
    assert torch.equal(out.z_q, with_entries)
    assert (found[0] != 0).any(-1).all()  # pyright: ignore
    assert_close(found, decoders_gradients(layer, z_e, expected))
    assert all((one is not None) == (gradient == "directional") for one in found[1:])


@pytest.mark.parametrize("holder", HOLDERS)
def test_gradients_that_are_not_one_are_refused_wherever_they_are(holder: str):
    pairs = [
        (Product([part("rotation", 2)] * 2), Product([part("straight_through", 2)] * 2)),
        (Product([part("rotation", 2), part("straight_through", 2)]), part("rotation")),
        (part("directional"), Regularized(part("rotation"))),
    ]
    for pair in pairs:
        sizes = [SIZE] * len(pair[0].codebook_sizes)
        if holder == "scales" and list(pair[1].codebook_sizes) != sizes:
            continue  # refused for its sizes
        with pytest.raises(ValueError, match=r"stages have gradients \[.*; give one to all"):
            HOLDERS[holder](list(pair))


@pytest.mark.parametrize("gradient", ["rotation", "directional"])
def test_a_projection_that_the_gradient_would_not_train_is_refused(gradient: Gradient):
    for stage in (Projected(part(gradient, 2), DIM), Regularized(Projected(part(gradient), DIM))):
        with pytest.raises(ValueError, match=rf"{gradient}.*Projected\(Residual\(\.\.\.\), dim"):
            Residual([stage, part(gradient)])
