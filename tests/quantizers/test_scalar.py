"""What must hold for finite scalar quantization in particular."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import FiniteScalarQuantizer, FSQConfig

SLACK = 1e-3  # of the paper's code, in its appendix
MIXED = (8, 5, 4, 3, 2)


def all_vectors(levels: tuple[int, ...]) -> Tensor:
    """Every code's vector by the paper: integers around 0 over half the level. (K, D) float64"""
    values = [[(n - size // 2) / (size // 2) for n in range(size)] for size in levels]
    return torch.tensor(list(itertools.product(*values)), dtype=torch.float64)


def unsquashed(vectors: Tensor, levels: tuple[int, ...]) -> Tensor:
    """What the paper's bound takes to given vectors, by its inverse. (..., D) float64

    Of two levels each has half the line, without the paper's shift.
    """
    sizes = torch.tensor(levels)
    half, offset = (sizes - 1) * (1 + SLACK) / 2, 0.5 * (sizes % 2 == 0)
    steps = vectors * (sizes // 2)
    return torch.atanh((steps + offset) / half) - torch.atanh(offset / half) * (sizes > 2)


@pytest.mark.parametrize("levels", [(2,), (3,), (8, 5, 5, 5), MIXED, (7, 7), (2, 2, 2, 2)])
def test_every_code_is_reached_by_its_own_vector_and_decodes_to_it(levels: tuple[int, ...]):
    layer = FiniteScalarQuantizer(levels)
    expected = all_vectors(levels)
    out = layer(unsquashed(expected, levels).float())
    assert_close(out.z_q.double(), expected, rtol=0, atol=1e-6)
    everything = torch.arange(math.prod(levels))
    assert torch.equal(out.indices.sort(0).values, everything.unsqueeze(-1))
    assert torch.equal(layer.decode(out.indices), out.z_q)


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 9, 16])
def test_values_lie_evenly_and_contain_zero_and_minus_one(size: int):
    layer = FiniteScalarQuantizer((size,))
    values = layer.decode(torch.arange(size).unsqueeze(-1)).flatten()
    highest = 1.0 if size % 2 else 1 - 1 / (size // 2)
    assert_close(values, torch.linspace(-1, highest, size), rtol=0, atol=1e-6)
    assert (values == 0).sum() == 1


def test_normal_vectors_reach_every_code_of_two_levels():
    layer = FiniteScalarQuantizer((2,) * 8)
    indices = layer.encode(torch.randn(10_000, 8)).flatten()
    assert indices.bincount(minlength=256).min() > 10


@pytest.mark.parametrize("size", [3, 5, 7])
def test_odd_levels_treat_both_signs_alike(size: int):
    layer = FiniteScalarQuantizer((size,) * 4)
    z_e = 2 * torch.randn(200, 4)
    assert torch.equal(layer(-z_e).z_q, -layer(z_e).z_q)


def test_the_gradient_is_the_derivative_of_the_squashing():
    layer = FiniteScalarQuantizer(MIXED)
    z_e = torch.randn(100, 5, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(100, 5, dtype=torch.float64)
    layer(z_e).z_q.backward(upstream)
    for place, size in enumerate(MIXED):
        half, offset = (size - 1) * (1 + SLACK) / 2, 0.0 if size % 2 else 0.5
        shift = math.atanh(offset / half) if size > 2 else 0.0
        slope = half / torch.cosh(z_e[:, place] + shift).square()
        expected = upstream[:, place] * slope / (size // 2)
        assert_close(z_e.grad[:, place], expected.detach(), rtol=1e-5, atol=1e-6)  # pyright: ignore


def test_each_coordinate_gets_only_its_own_gradient():
    layer = FiniteScalarQuantizer((5, 4, 3))
    jacobian = torch.autograd.functional.jacobian(lambda z: layer(z).z_q, torch.randn(3))
    assert isinstance(jacobian, Tensor)
    assert_close(jacobian, jacobian.diagonal().diag(), rtol=0, atol=0)
    assert (jacobian.diagonal() > 0).all()


def test_the_value_is_the_nearest_to_the_squashed_vector():
    layer = FiniteScalarQuantizer((8, 5, 4, 3))
    z_e = 2 * torch.randn(500, 4)
    table = all_vectors((8, 5, 4, 3)).float()
    nearest = torch.cdist(layer.squash(z_e), table).argmin(-1)
    assert_close(layer(z_e).z_q, table[nearest], rtol=0, atol=1e-6)


def test_nothing_is_learned_or_saved_and_the_objective_is_zero():
    layer = FiniteScalarQuantizer((8, 5, 5, 5))
    assert list(layer.parameters()) == []
    assert layer.state_dict() == {}
    assert layer(torch.randn(10, 4)).loss == 0
    assert layer(torch.randn(10, 4)).terms == {}


def test_a_codebook_of_10_to_the_18_takes_no_memory_and_none_of_its_codes_is_lost():
    layer = FiniteScalarQuantizer((10,) * 18)
    assert layer.codebook_sizes == (10**18,)
    assert sum(buffer.numel() for buffer in layer.buffers()) <= 18
    indices = torch.randint(10**18, (300, 1))
    indices[:2, 0] = torch.tensor([0, 10**18 - 1])
    layer.squashes = False
    assert torch.equal(layer.encode(layer.decode(indices)), indices)


@pytest.mark.parametrize("levels", [MIXED, (1000, 2), (1001, 3), (1003, 4), (4096, 4095)])
def test_far_out_is_the_outermost_value_however_many_there_are(levels: tuple[int, ...]):
    layer = FiniteScalarQuantizer(levels)
    z_e = torch.full((len(levels),), 1e30)
    assert layer(z_e).indices == math.prod(levels) - 1
    assert layer(-z_e).indices == 0
    assert (layer(-z_e).z_q == -1).all()


@pytest.mark.parametrize("size", [3, 4, 8, 1000])
def test_the_outermost_values_are_reached_by_moderate_numbers(size: int):
    layer = FiniteScalarQuantizer((size,))
    assert layer(torch.tensor([8.0])).indices == size - 1
    assert layer(torch.tensor([-8.0])).indices == 0


def test_zero_is_quantized_to_zero():
    assert (FiniteScalarQuantizer(MIXED)(torch.zeros(5)).z_q == 0).all()


def test_more_codes_than_an_index_can_tell_are_refused():
    FiniteScalarQuantizer((2,) * 62)
    with pytest.raises(ValueError, match="63 bits; give fewer"):
        FiniteScalarQuantizer((2,) * 63)
    with pytest.raises(ValueError, match="63 bits; give fewer"):
        FSQConfig(levels=(10,) * 400).build(400)


@pytest.mark.parametrize("levels", [(), (1, 5), (5, 0), (-3, 5)])
def test_levels_without_a_choice_are_refused(levels: tuple[int, ...]):
    with pytest.raises(ValueError, match=r"at least 2|levels are empty"):
        FiniteScalarQuantizer(levels)


def test_vectors_of_another_length_than_levels_are_refused_with_a_way_out():
    with pytest.raises(ValueError, match=r"they have 7; give as many .*type=projected, dim=4"):
        FSQConfig(levels=(8, 5, 5, 5)).build(7)
    assert FSQConfig(levels=(8, 5, 5, 5)).build(4).levels == (8, 5, 5, 5)


def test_without_squashing_vectors_go_to_the_nearest_value():
    """As the stages of a residual quantizer, whose vectors are squashed already."""
    layer = FiniteScalarQuantizer((8, 5, 4, 3))
    layer.squashes = False
    z_e = 3 * torch.rand(1000, 4) - 1.5  # some beyond the range, which ends at the last value
    table = all_vectors((8, 5, 4, 3))
    nearest = torch.cdist(z_e.double(), table).argmin(-1)
    assert_close(layer(z_e).z_q.double(), table[nearest], rtol=0, atol=1e-6)


def test_without_squashing_the_gradient_is_that_of_a_cut_at_the_outermost_values():
    layer = FiniteScalarQuantizer((8, 5, 3))
    layer.squashes = False
    z_e = (3 * torch.rand(200, 3) - 1.5).requires_grad_()
    upstream = torch.randn(200, 3)
    layer(z_e).z_q.backward(upstream)
    inside = (z_e > -1) & (z_e < torch.tensor([0.75, 1, 1]))
    assert_close(z_e.grad, torch.where(inside, upstream, 0))


def test_more_values_than_float32_tells_apart_are_refused():
    with pytest.raises(ValueError, match=r"a level is 33554432; give at most 1048576"):
        FiniteScalarQuantizer((2**25,))
    most = FiniteScalarQuantizer((2**20,))
    z_e = torch.tensor([[-30.0], [0.3], [30.0]])
    indices = most.encode(z_e)
    assert indices[[0, 2], 0].tolist() == [0, 2**20 - 1]
    assert torch.equal(most.decode(indices), most.eval()(z_e).z_q)


@pytest.mark.parametrize("levels", [(256, 256, 256), (256, 256, 257), (2**20, 2**5)])
def test_indices_are_exact_where_float32_can_just_or_no_longer_hold_them(levels: tuple[int, ...]):
    quantizer = FiniteScalarQuantizer(levels)
    z = 2 * torch.randn(3000, len(levels))
    out = quantizer(z)
    assert out.indices.amax() > 0.9 * math.prod(levels)
    assert torch.equal(quantizer.decode(out.indices), out.z_q)
