"""What must hold for quantizers of signs in particular."""

import math

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import BinarySphericalQuantizer, LookupFreeQuantizer
from vqkit.quantizers.binary import DECAY, BinaryQuantizer, joint_probabilities

BOTH = pytest.mark.parametrize("kind", [LookupFreeQuantizer, BinarySphericalQuantizer])
Kind = type[LookupFreeQuantizer] | type[BinarySphericalQuantizer]


def all_entries(layer: BinaryQuantizer) -> Tensor:
    """Every code's vector, from its definition. (2^D, D) float64"""
    rows = [[2 * (k >> d & 1) - 1 for d in range(layer.dim)] for k in range(2**layer.dim)]
    return torch.tensor(rows, dtype=torch.float64) * layer.size


def probabilities(layer: BinaryQuantizer, z_e: Tensor) -> Tensor:
    """Softmax over all codes of minus half the squared distance, over temperature. (N, 2^D)"""
    z = layer.projected(z_e).double()
    squares = (z.unsqueeze(1) - all_entries(layer)).square().sum(-1)
    return (-squares / (2 * layer.temperature)).softmax(-1)


def joint(logits: Tensor) -> Tensor:
    """The probability of every combination of bits, from its two factors. (..., B) -> (..., 2^B)"""
    low, high = joint_probabilities(logits)
    return (high.unsqueeze(-1) * low.unsqueeze(-2)).flatten(-2)


def entropy(p: Tensor) -> Tensor:
    """In nats. (..., K) -> (...)"""
    return -torch.xlogy(p, p).sum(-1)


@BOTH
@pytest.mark.parametrize("dim", [1, 2, 9])
def test_every_code_decodes_to_its_signs_and_back(kind: Kind, dim: int):
    layer = kind(dim)
    indices = torch.arange(2**dim).unsqueeze(-1)
    assert layer.codebook_sizes == (2**dim,)
    assert_close(layer.decode(indices).double(), all_entries(layer), rtol=0, atol=1e-6)
    assert torch.equal(layer.encode(layer.decode(indices)), indices)
    assert torch.equal(layer.encode(1e-3 * layer.decode(indices)), indices)


@BOTH
def test_the_code_is_the_nearest_of_all(kind: Kind):
    layer = kind(6)
    z_e = torch.randn(500, 6)
    nearest = torch.cdist(layer.projected(z_e).double(), all_entries(layer)).argmin(-1)
    assert torch.equal(layer.encode(z_e).squeeze(-1), nearest)


@BOTH
def test_a_bits_probability_is_the_marginal_of_the_softmax_over_all_codes(kind: Kind):
    layer = kind(5, temperature=0.7)
    z_e = torch.randn(40, 5)
    bits = (all_entries(layer) > 0).double()
    marginals = probabilities(layer, z_e) @ bits
    logits = 2 * layer.projected(z_e).double() * layer.size / layer.temperature
    assert_close(logits.sigmoid(), marginals)
    assert_close(joint(logits), probabilities(layer, z_e))


@pytest.mark.parametrize("num", [1, 2, 5])
def test_joint_probabilities_are_products_over_bits(num: int):
    logits = 3 * torch.randn(2, 7, num, dtype=torch.float64)
    found = joint(logits)
    assert found.shape == (2, 7, 2**num)
    for k in range(2**num):
        expected = torch.ones(2, 7, dtype=torch.float64)
        for d, one in enumerate(logits.sigmoid().unbind(-1)):
            expected = expected * (one if k >> d & 1 else 1 - one)
        assert_close(found[..., k], expected)


@BOTH
def test_the_entropy_of_a_vector_and_its_gradient_are_those_over_all_codes(kind: Kind):
    layer = kind(6, temperature=0.5).double()
    z_e = torch.randn(30, 6, dtype=torch.float64, requires_grad=True)
    found = layer(z_e).terms["entropy"].value
    expected = entropy(probabilities(layer, z_e)).mean() / 6
    assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, z_e)
    (same,) = torch.autograd.grad(expected, z_e)
    assert_close(gradient, same, rtol=1e-5, atol=1e-9)


@BOTH
def test_entropy_goes_from_nothing_to_one_bit_with_the_temperature(kind: Kind):
    z_e = torch.rand(20, 6) + 0.1
    for temperature, expected in ((1e-4, 0.0), (1e4, math.log(2))):
        found = kind(6, temperature=temperature)(z_e).terms["entropy"].value.item()
        assert found == pytest.approx(expected, abs=1e-5)


@BOTH
@pytest.mark.parametrize("dim", [1, 2, 5, 8])
def test_diversity_and_what_is_collected_for_it_are_those_over_all_codes(kind: Kind, dim: int):
    """With an average that is no product over bits, and padding."""
    layer = kind(dim, temperature=0.5, commit_in_forward=False).double()
    z_e = torch.randn(5, 6, dim, dtype=torch.float64, requires_grad=True)
    mask = torch.rand(5, 6) > 0.4
    layer.average_probabilities.copy_(torch.rand(2**dim).softmax(0))
    each = probabilities(layer, z_e[mask])
    expected = -(each @ layer.average_probabilities.log()).mean() / dim
    found = layer(z_e, mask).terms["diversity"].value
    assert_close(found, expected)
    assert_close(layer.pending, each.sum(0))
    (gradient,) = torch.autograd.grad(found, z_e)
    (same,) = torch.autograd.grad(expected, z_e)
    assert_close(gradient, same, rtol=1e-5, atol=1e-9)


@BOTH
def test_what_the_backward_pass_keeps_grows_with_the_vectors_alone(kind: Kind):
    """Not with their number times the 256 combinations of 8 bits."""
    kept: dict[int, int] = {}

    def pack(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // 4
        return x

    layer, z_e = kind(16), torch.randn(2000, 16, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        out = layer(z_e)
    assert sum(kept.values()) < 20 * z_e.numel()
    out.loss.backward()


@BOTH
def test_diversity_is_the_entropy_of_the_mean_where_the_average_is_that_mean(kind: Kind):
    """In value and in gradient."""
    layer = kind(6, temperature=0.5, commit_in_forward=False).double()
    z_e = torch.randn(30, 6, dtype=torch.float64, requires_grad=True)
    mean = probabilities(layer, z_e).mean(0)
    layer.average_probabilities.copy_(mean.detach())
    found, expected = layer(z_e).terms["diversity"].value, entropy(mean) / 6
    assert_close(found, expected)
    (gradient,) = torch.autograd.grad(found, z_e)
    (same,) = torch.autograd.grad(expected, z_e)
    assert_close(gradient, same, rtol=1e-5, atol=1e-9)


@BOTH
def test_groups_of_bits_bound_the_entropy_of_all_codes_from_above(kind: Kind):
    layer = kind(10, commit_in_forward=False)
    layer.temperature = 0.5 * layer.size**2
    z_e = torch.randn(20, 1) + 0.3 * torch.randn(20, 10)  # bits that depend on each other
    joint = probabilities(layer, z_e).mean(0).view(4, 256)
    groups = [joint.sum(0), joint.sum(1)]
    layer.average_probabilities.copy_(torch.cat(groups))
    found = 10 * layer(z_e).terms["diversity"].value.double()
    assert_close(found, entropy(groups[0]) + entropy(groups[1]))
    assert found > entropy(joint.flatten()) + 0.05


@BOTH
def test_the_average_is_that_of_a_loop_in_float64_one_step_per_commit(kind: Kind):
    layer = kind(10, commit_in_forward=False)
    expected = [torch.full((2**bits,), 0.5**bits, dtype=torch.float64) for bits in (8, 2)]
    for batch in 2 * torch.randn(6, 40, 10) + 1:
        mask = torch.rand(40) > 0.3
        joint = probabilities(layer, batch[mask]).mean(0).view(4, 256)
        before = layer.average_probabilities.clone()
        layer(batch[:7], mask[:7])
        layer(batch[7:], mask[7:])
        assert torch.equal(layer.average_probabilities, before)
        layer.commit()
        new = [joint.sum(0), joint.sum(1)]
        expected = [DECAY * e + (1 - DECAY) * n for e, n in zip(expected, new, strict=True)]
        found = layer.average_probabilities.double()
        assert_close(found, torch.cat(expected), rtol=1e-4, atol=1e-7)


@BOTH
def test_only_training_moves_the_average(kind: Kind):
    layer = kind(4)
    before = layer.average_probabilities.clone()
    layer.encode(torch.randn(50, 4))
    layer.eval()(torch.randn(50, 4))
    layer.commit()
    assert torch.equal(layer.average_probabilities, before)
    layer.train()(torch.randn(50, 4))
    assert not torch.equal(layer.average_probabilities, before)


@BOTH
def test_one_vector_that_is_not_finite_does_not_spoil_the_average(kind: Kind):
    """As an overflow in mixed precision, in a step that the optimizer then skips."""
    layer = kind(4)
    layer.refuse_not_finite = False
    layer(torch.full((3, 4), torch.nan))
    before = layer.average_probabilities.clone()
    assert before.isfinite().all()
    assert layer(torch.randn(50, 4)).loss.isfinite()
    assert not torch.equal(layer.average_probabilities, before)
    assert_close(layer.average_probabilities.sum(), torch.tensor(1.0))


@BOTH
def test_2_to_the_62_codes_take_no_memory_and_none_is_lost(kind: Kind):
    layer = kind(62)
    assert sum(buffer.numel() for buffer in layer.buffers()) < 5000
    assert not list(layer.parameters())
    indices = torch.randint(2**62, (100, 1))
    indices[:2, 0] = torch.tensor([0, 2**62 - 1])
    assert torch.equal(layer.encode(layer.decode(indices)), indices)
    assert layer(torch.randn(10, 62)).loss.isfinite()


@BOTH
def test_63_bits_are_refused_with_a_way_out(kind: Kind):
    with pytest.raises(ValueError, match=r"dim is 63; .* 1 to 62 bits: project"):
        kind(63)
    with pytest.raises(ValueError, match="dim is 0; give at least 1"):
        kind(0)
    for temperature in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature"):
            kind(4, temperature=temperature)
    with pytest.raises(ValueError, match="diversity"):
        kind(4, diversity=-0.1)


def test_vectors_on_the_sphere_have_length_1_and_an_error_with_a_bound():
    """1 - 1/sqrt(D) of half the squared distance, which a vector along one axis has."""
    layer = BinarySphericalQuantizer(9)
    along_an_axis = torch.eye(9)
    z_e = torch.cat([along_an_axis, 100 * torch.randn(500, 9)])
    out = layer(z_e)
    assert_close(out.z_q.norm(dim=-1), torch.ones(509))
    errors = (layer.projected(z_e) - out.z_q).square().sum(-1)
    assert errors.amax() < 2 - 2 / 3 + 1e-5
    assert_close(errors[:9], torch.full((9,), 2 - 2 / 3), rtol=1e-3, atol=0)


def test_on_the_sphere_only_the_direction_counts():
    layer = BinarySphericalQuantizer(9, temperature=1.0)
    z_e = torch.randn(50, 9)
    assert_close(layer(1e4 * z_e).loss, layer(1e2 * z_e).loss, rtol=1e-2, atol=0)
    assert_close(layer.projected(z_e).norm(dim=-1), torch.ones(50), rtol=1e-4, atol=0)


@BOTH
def test_the_objective_is_the_weighted_sum_of_its_terms(kind: Kind):
    layer = kind(5, commitment=0.3, certainty=0.2, diversity=0.7)
    z_e = torch.randn(50, 5)
    out = layer(z_e)
    terms = {name: mean.value for name, mean in out.terms.items()}
    expected = 0.3 * terms["commitment"] + 0.2 * terms["entropy"] - 0.7 * terms["diversity"]
    assert_close(out.loss, expected)
    assert_close(terms["commitment"], (layer.projected(z_e) - out.z_q).square().mean())


@BOTH
def test_training_with_the_objective_alone_raises_the_use_of_codes(kind: Kind):
    layer = kind(4, commitment=0.0, certainty=0.05, diversity=1.0, temperature=0.3)
    z_e = (0.3 * torch.randn(256, 4) + 0.5).requires_grad_()
    optimizer = torch.optim.Adam([z_e], lr=0.03)

    def bits_in_use() -> float:
        counts = layer.encode(z_e.detach()).flatten().bincount(minlength=16).double()
        return entropy(counts / counts.sum()).item() / math.log(2)

    before = bits_in_use()
    for _ in range(60):
        optimizer.zero_grad()
        layer(z_e).loss.backward()
        optimizer.step()
    assert before < 2
    assert bits_in_use() > 3.5
