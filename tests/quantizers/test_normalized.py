"""What must hold for quantizers of normalised vectors in particular."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vqkit.quantizers import Codebook, Normalized, VectorQuantizer

DIM = 8


def layer(how: str = "layernorm", commitment: float = 0.25) -> Normalized:
    torch.manual_seed(0)
    codebook = Codebook.from_entries(torch.randn(16, DIM))
    inner = VectorQuantizer(DIM, 16, commitment=commitment, codebook=codebook)
    return Normalized(inner, how)  # pyright: ignore[reportArgumentType]


def test_layernorm_gives_mean_0_and_variance_1():
    z = layer("layernorm").normalize(3 * torch.randn(100, DIM) + 5)
    assert_close(z.mean(-1), torch.zeros(100), rtol=0, atol=1e-5)
    assert_close(z.var(-1, correction=0), torch.ones(100), rtol=0, atol=1e-3)


def test_l2_gives_length_1_and_the_same_direction():
    z_e = 3 * torch.randn(100, DIM)
    z = layer("l2").normalize(z_e)
    assert_close(z, F.normalize(z_e, dim=-1), rtol=0, atol=1e-3)


@pytest.mark.parametrize("how", ["layernorm", "l2"])
def test_encoding_looks_up_the_normalized_vectors(how: str):
    direction = layer(how).normalize(torch.randn(DIM))
    short_and_whole = Codebook.from_entries(torch.stack([0.1 * direction, direction]))
    outer = Normalized(VectorQuantizer(DIM, 2, codebook=short_and_whole), how)  # pyright: ignore
    assert outer.encode(0.05 * direction).item() == 1


@pytest.mark.parametrize("how", ["layernorm", "l2"])
def test_lookup_losses_and_value_are_those_of_the_normalized_vectors(how: str):
    outer = layer(how)
    z_e = 5 * torch.randn(50, DIM)
    expected = outer.quantizer(outer.normalize(z_e))
    out = outer(z_e)
    assert torch.equal(out.indices, expected.indices)
    assert torch.equal(out.z_q, expected.z_q)
    assert torch.equal(outer.decode(out.indices), out.z_q)
    assert_close(out.loss, expected.loss)
    by_hand = (outer.normalize(z_e) - out.z_q).square().mean()
    assert_close(out.terms["commitment"].value, by_hand)


@pytest.mark.parametrize("how", ["layernorm", "l2"])
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_a_layer_alone_starts_from_the_vectors_that_it_quantizes(how: str, scale: float):
    """Near 0, where vectors stay shorter than 1, a second normalisation would change them."""
    z_e = scale * torch.randn(300, DIM)
    outer = Normalized(VectorQuantizer(DIM, 16), how)  # pyright: ignore[reportArgumentType]
    alone = copy.deepcopy(outer.quantizer)
    alone.commit_in_forward = True
    outer(z_e)
    alone(outer.normalize(z_e))
    assert_close(outer.quantizer.state_dict(), alone.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("how", ["layernorm", "l2"])
def test_scaling_the_encoders_output_changes_nothing(how: str):
    z_e = torch.randn(50, DIM)
    once, scaled = layer(how)(10 * z_e), layer(how)(1000 * z_e)
    assert torch.equal(once.indices, scaled.indices)
    assert_close(once.loss, scaled.loss)


@pytest.mark.parametrize("how", ["layernorm", "l2"])
@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e-6, 1.0, 1e10])
def test_gradients_are_bounded_near_zero_and_far_from_it(how: str, scale: float):
    z_e = (scale * torch.randn(50, DIM)).requires_grad_()
    out = layer(how)(z_e)
    (out.loss * 50 + out.z_q.sum()).backward()
    assert z_e.grad is not None
    assert z_e.grad.isfinite().all()
    assert z_e.grad.norm(dim=-1).amax() < 5e3


@pytest.mark.parametrize("how", ["layernorm", "l2"])
def test_half_precision_is_normalized_in_float32(how: str):
    z_e = torch.randn(50, DIM).bfloat16()
    outer = layer(how)
    assert outer.normalize(z_e).dtype == torch.float32
    assert torch.equal(outer.normalize(z_e), outer.normalize(z_e.float()))


def test_committing_in_forward_is_decided_for_the_quantizer_inside():
    outer = layer()
    outer.commit_in_forward = False
    assert not outer.quantizer.commit_in_forward
    assert not outer.commit_in_forward


def test_what_cannot_be_normalized_is_refused():
    with pytest.raises(ValueError, match="give 'layernorm' or 'l2'"):
        layer("batchnorm")
    with pytest.raises(ValueError, match="at least 2"):
        Normalized(VectorQuantizer(1, 8))


@pytest.mark.parametrize(("dim", "length"), [(8, 0.1), (64, 0.3), (1024, 1.0)])
def test_short_vectors_get_length_1_too(dim: int, length: float):
    torch.manual_seed(0)
    layer = Normalized(VectorQuantizer(dim, 16), "l2")
    z = layer.normalize(length * F.normalize(torch.randn(100, dim), dim=-1))
    assert_close(z.norm(dim=-1), torch.ones(100), rtol=0, atol=2e-3)
