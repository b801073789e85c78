"""What must hold for latent quantization in particular."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import LatentConfig, LatentQuantizer
from vqkit.quantizers.latent import nearest_value

LEVELS = (5, 4, 3, 2)


def quantizer(*, commitment: float = 0.25) -> LatentQuantizer:
    """A layer with values that lie unevenly and in no order."""
    layer = LatentQuantizer(LEVELS, commitment=commitment)
    layer.load_state_dict({"values": torch.randn(sum(LEVELS))}, strict=False)  # a start
    return layer


def by_brute_force(layer: LatentQuantizer, z_e: Tensor) -> Tensor:
    """The nearest value of each coordinate, one number at a time. (N, D)"""
    tables = [values.tolist() for values in layer.values.split(layer.levels)]
    rows = [
        [min(table, key=lambda v, x=x: abs(v - x)) for table, x in zip(tables, row, strict=True)]
        for row in z_e.tolist()
    ]
    return torch.tensor(rows)


def test_each_coordinate_gets_the_nearest_of_its_own_values():
    layer = quantizer()
    z_e = 2 * torch.randn(300, 4)
    assert torch.equal(layer(z_e).z_q, by_brute_force(layer, z_e))


def test_every_code_decodes_to_its_own_vector_and_back():
    layer = quantizer()
    indices = torch.arange(5 * 4 * 3 * 2).unsqueeze(-1)
    assert layer.codebook_sizes == (len(indices),)
    assert len(layer.decode(indices).unique(dim=0)) == len(indices)
    assert torch.equal(layer.encode(layer.decode(indices)), indices)


def test_until_a_start_values_are_even_from_minus_a_half_to_a_half():
    for values, size in zip(LatentQuantizer(LEVELS).values.split(LEVELS), LEVELS, strict=True):
        assert_close(values.data, torch.linspace(-0.5, 0.5, size))


def test_alone_it_starts_from_its_first_training_batch_with_real_vectors():
    layer, alone, z_e = LatentQuantizer(LEVELS), LatentQuantizer(LEVELS), torch.randn(50, 4) + 9
    mask = torch.arange(50) < 30
    before = layer.values.detach().clone()
    layer.eval()(z_e)
    layer.train()(z_e, torch.zeros(50, dtype=torch.bool))
    assert torch.equal(layer.values, before)
    alone.initialize(z_e[mask], seed=0)
    layer(z_e, mask)
    assert torch.equal(layer.values, alone.values)
    layer(z_e + 1)
    assert torch.equal(layer.values, alone.values)


def test_a_start_from_data_gives_each_value_an_equal_share():
    layer = LatentQuantizer((8, 5))
    z_e = torch.stack([torch.randn(4000).exp(), torch.rand(4000)], -1)
    layer.initialize(z_e, seed=0)
    for values, x in zip(layer.values.split((8, 5)), z_e.unbind(-1), strict=True):
        below = (x < values.unsqueeze(1)).double().mean(1)
        size = len(values)
        assert_close(below, (torch.arange(size).double() + 0.5) / size, rtol=0, atol=1e-3)


def test_each_term_reaches_only_what_it_should():
    layer = quantizer()
    for name, reaches_values in (("values", True), ("commitment", False)):
        z_e = torch.randn(50, 4, requires_grad=True)
        mean = layer(z_e).terms[name].value
        grads = torch.autograd.grad(mean, [z_e, layer.values], allow_unused=True)
        assert [grad is not None for grad in grads] == [not reaches_values, reaches_values]


def test_the_terms_and_their_gradients_are_the_equations():
    """(z_q - sg z_e)^2 and (z_e - sg z_q)^2, as means over vectors and coordinates."""
    layer = quantizer(commitment=0.7)
    z_e = torch.randn(50, 4, requires_grad=True)
    out = layer(z_e)
    gap = (by_brute_force(layer, z_e.detach()) - z_e.detach()).double()
    for mean in out.terms.values():
        assert_close(mean.value.double(), gap.square().mean())
    assert_close(out.loss.double(), 1.7 * gap.square().mean())
    out.loss.backward()
    assert_close(z_e.grad.double(), -0.7 * 2 * gap / gap.numel())  # pyright: ignore
    expected = [
        2 * gap[:, d][out.z_q[:, d] == value].sum().item() / gap.numel()
        for d, values in enumerate(layer.values.split(LEVELS))
        for value in values
    ]
    assert_close(layer.values.grad, torch.tensor(expected))


def test_the_decoders_gradient_reaches_the_encoder_unchanged_and_not_the_values():
    layer = quantizer()
    z_e, upstream = torch.randn(50, 4, requires_grad=True), torch.randn(50, 4)
    layer(z_e).z_q.backward(upstream)
    assert torch.equal(z_e.grad, upstream)  # pyright: ignore
    assert layer.values.grad is None


def test_training_moves_the_values_to_the_centres_of_clusters():
    centers = torch.tensor([-2.0, 0.3, 1.0])
    z_e = (centers[torch.randint(3, (500,))] + 0.01 * torch.randn(500)).unsqueeze(-1)
    layer = LatentQuantizer((3,))
    layer.initialize(z_e, seed=0)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    for _ in range(150):
        optimizer.zero_grad()
        layer(z_e).loss.backward()
        optimizer.step()
    assert_close(layer.values.data, centers, rtol=0, atol=0.02)


def test_what_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match=r"they have 3; give as many .*type=projected, dim=4"):
        LatentConfig(levels=LEVELS).build(3)
    with pytest.raises(ValueError, match="commitment"):
        LatentQuantizer(LEVELS, commitment=-1)
    with pytest.raises(ValueError, match="63 bits"):
        LatentQuantizer((2,) * 63)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_start_from_numbers_that_are_none_is_refused_and_changes_nothing(bad: float):
    layer, z_e = LatentQuantizer(LEVELS), torch.randn(50, 4)
    before, z_e[3, 1] = layer.values.detach().clone(), bad
    with pytest.raises(ValueError, match="not finite"):
        layer.initialize(z_e, seed=0)
    assert torch.equal(layer.values, before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("num", [2, 5, 40])
def test_the_nearest_value_is_that_of_brute_force_ties_and_copies_included(
    num: int, dtype: torch.dtype
):
    values = torch.randint(-6, 7, (num,)).to(dtype)  # in no order, some of them twice
    x = torch.cat([torch.arange(-16, 17) / 2, 9 * torch.randn(500)]).to(dtype)
    found = nearest_value(x, values)
    assert torch.equal(found, (x.unsqueeze(-1) - values).abs().argmin(-1))
    assert torch.equal(nearest_value(x[:32].view(4, 8), values), found[:32].view(4, 8))
