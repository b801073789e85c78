"""What must hold for quantization in other dimensions in particular."""

import copy

import pytest
import torch
from torch.testing import assert_close

from vqkit.quantizers import (
    Codebook,
    EMAConfig,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    Projected,
    ProjectedConfig,
    VectorQuantizer,
)

DIM, INSIDE, SIZE = 6, 3, 8


def layer(dim: int = DIM) -> Projected:
    """Maps that are no longer those of the start, biases included."""
    book = Codebook.from_entries(torch.randn(SIZE, INSIDE))
    made = Projected(VectorQuantizer(INSIDE, SIZE, codebook=book), dim)
    with torch.no_grad():
        for parameter in (*made.down.parameters(), *made.up.parameters()):
            parameter.normal_()
    return made


@pytest.mark.parametrize("dim", [2, INSIDE, DIM])
def test_it_equals_the_linear_maps_by_hand(dim: int):
    quantizer, z_e = layer(dim), torch.randn(40, dim, requires_grad=True)
    names, parameters = zip(*quantizer.named_parameters(), strict=True)
    weights = dict(zip(names, parameters, strict=True))
    entries = weights["quantizers.0.codebook.entries"]
    inside = z_e @ weights["down.weight"].T + weights["down.bias"]
    indices = torch.cdist(inside, entries).argmin(-1)
    chosen = entries[indices]
    pulled = (chosen - inside.detach()).square().mean()
    loss = pulled + 0.25 * (inside - chosen.detach()).square().mean()
    straight = inside + (chosen - inside).detach()
    z_q = straight @ weights["up.weight"].T + weights["up.bias"]
    out = quantizer(z_e)
    assert torch.equal(out.indices.squeeze(-1), indices)
    assert_close(out.z_q, z_q)
    assert_close(out.loss, loss)
    asked = torch.randn(40, dim)
    found = torch.autograd.grad(out.loss + (out.z_q * asked).sum(), [z_e, *parameters])
    expected = torch.autograd.grad(loss + (z_q * asked).sum(), [z_e, *parameters])
    assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dim", [2, INSIDE, DIM])
def test_a_fresh_layer_leaves_vectors_of_the_projected_subspace_as_they_are(dim: int):
    quantizer = Projected(VectorQuantizer(INSIDE, SIZE), dim)
    within = torch.randn(20, min(dim, INSIDE))
    x = within if dim <= INSIDE else within @ quantizer.down.weight
    assert_close(quantizer.up(quantizer.down(x)), x)


def test_a_fresh_layer_goes_back_to_the_nearest_vector_there_is():
    """No other vector of the subspace is nearer: what is missing is orthogonal to it."""
    quantizer, x = Projected(VectorQuantizer(INSIDE, SIZE), DIM), torch.randn(20, DIM)
    missing = x - quantizer.up(quantizer.down(x))
    assert_close(missing @ quantizer.down.weight.T, torch.zeros(20, INSIDE))
    assert missing.norm() > 1


@pytest.mark.parametrize("filler", [5.0, torch.nan])
def test_masked_positions_send_no_gradient_to_the_projection(filler: float):
    quantizer, packed = layer(), layer()
    packed.load_state_dict(quantizer.state_dict())
    mask = torch.rand(4, 9) < 0.5
    z_e = torch.randn(4, 9, DIM).masked_fill(~mask.unsqueeze(-1), filler)
    for one, out in ((quantizer, quantizer(z_e, mask)), (packed, packed(z_e[mask]))):
        # The decoder asks for something at padding too.
        (out.loss + out.z_q.square().sum()).backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in one.parameters())
    pairs = zip(quantizer.named_parameters(), packed.parameters(), strict=True)
    for (name, found), expected in pairs:
        assert_close(found.grad, expected.grad, rtol=1e-4, atol=1e-4, msg=name)


@pytest.mark.parametrize("start", ["engine", "first batch"])
def test_the_codebook_starts_from_projected_vectors(start: str):
    quantizer = ProjectedConfig(quantizer=EMAConfig(codebook_size=SIZE), dim=INSIDE).build(DIM)
    torch.nn.init.normal_(quantizer.down.bias)
    alone = copy.deepcopy(quantizer.quantizer)
    z_e = torch.randn(50, DIM)
    inside = z_e @ quantizer.down.weight.T + quantizer.down.bias
    if start == "engine":
        quantizer.initialize(z_e, seed=3)
        alone.initialize(inside, seed=3)
    else:
        quantizer(z_e)
        alone(inside)
        alone.commit()
    assert isinstance(alone, EMAVectorQuantizer)
    assert_close(quantizer.codebooks()[0].entries, alone.codebook.entries)


def test_any_length_fits_a_quantizer_of_a_fixed_length():
    quantizer = Projected(FiniteScalarQuantizer((5, 5)), 7)
    out = quantizer(torch.randn(3, 4, 7))
    assert out.z_q.shape == (3, 4, 7)
    assert out.indices.shape == (3, 4, 1)
    assert quantizer.codebook_sizes == (25,)
    out.z_q.sum().backward()
    assert all(p.grad is not None for p in quantizer.parameters())
