"""What must hold for product quantization in particular."""

import copy

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import (
    Codebook,
    EMAConfig,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    Product,
    ProductConfig,
    Quantizer,
    Residual,
    ResidualConfig,
    VectorQuantizer,
    VQConfig,
)

SIZE = 8


def part(dim: int, kind: type[VectorQuantizer] | type[EMAVectorQuantizer]) -> Quantizer:
    return kind(dim, SIZE, codebook=Codebook.from_entries(torch.randn(SIZE, dim)))


def part_losses(parts: list[Quantizer], z_e: Tensor) -> tuple[Tensor, list]:
    """The loss by hand, and what each part gives alone."""
    dims = [one.dim for one in parts]
    outputs = [one(some) for one, some in zip(parts, z_e.split(dims, -1), strict=True)]
    shares = [dim / sum(dims) for dim in dims]
    losses = [share * out.loss for share, out in zip(shares, outputs, strict=True)]
    return torch.stack(losses).sum(), outputs


@pytest.mark.parametrize("kind", [VectorQuantizer, EMAVectorQuantizer])
@pytest.mark.parametrize("dims", [(2, 2), (1, 3), (1, 2, 4)])
def test_it_equals_quantizing_each_part_alone(kind: type, dims: tuple[int, ...]):
    """Losses weigh by the share of coordinates; values, gradients and states are the parts'."""
    parts = [part(dim, kind) for dim in dims]
    product = Product(copy.deepcopy(parts))
    z_e, asked = torch.randn(50, sum(dims), requires_grad=True), torch.randn(50, sum(dims))
    out = product(z_e)
    loss, outputs = part_losses(parts, z_e)
    assert torch.equal(out.indices, torch.cat([one.indices for one in outputs], -1))
    values = torch.cat([one.z_q for one in outputs], -1)
    assert torch.equal(out.z_q, values)
    assert_close(out.loss, loss)
    leaves = [z_e, *(p for p in product.parameters() if p.requires_grad)]
    found = torch.autograd.grad(out.loss + (out.z_q * asked).sum(), leaves)
    leaves = [z_e, *(p for one in parts for p in one.parameters() if p.requires_grad)]
    assert_close(found, torch.autograd.grad(loss + (values * asked).sum(), leaves))
    for mine, alone in zip(product.parts, parts, strict=True):
        assert_close(mine.state_dict(), alone.state_dict(), rtol=0, atol=0)


def test_with_equal_parts_the_squared_error_is_the_mean_over_all_coordinates():
    product = Product([part(1, VectorQuantizer), part(3, VectorQuantizer)])
    z_e = torch.randn(50, 4)
    out = product(z_e)
    assert_close(out.loss, 1.25 * (out.z_q - z_e).square().mean())


def test_decoding_puts_the_parts_side_by_side():
    product = Product([part(1, VectorQuantizer), FiniteScalarQuantizer((5, 3))])
    assert product.dim == 3
    assert product.codebook_sizes == (SIZE, 15)
    z_e = torch.randn(2, 7, 3)
    indices = product.encode(z_e)
    first, second = product.parts
    assert torch.equal(product.decode(indices)[..., :1], first.decode(indices[..., :1]))
    assert torch.equal(product.decode(indices)[..., 1:], second.decode(indices[..., 1:]))
    assert torch.equal(indices[..., 1:], second.encode(z_e[..., 1:]))


@pytest.mark.parametrize("kind", [VectorQuantizer, EMAVectorQuantizer])
def test_heads_with_one_codebook_equal_one_quantizer_of_the_heads(kind: type):
    alone = part(2, kind)
    heads = Product([copy.deepcopy(alone)] * 3)
    z_e, mask = torch.randn(5, 20, 6, requires_grad=True), torch.rand(5, 20) < 0.6
    out = heads(z_e, mask)
    packed = alone(z_e[mask].view(-1, 2))
    assert torch.equal(out.indices[mask].flatten(), packed.indices.flatten())
    assert torch.equal(out.z_q[mask].view(-1, 2), packed.z_q)
    assert_close(out.loss, packed.loss)
    assert out.objective.count == mask.sum()
    found = torch.autograd.grad(out.loss + out.z_q.square().sum(), z_e)
    assert_close(found, torch.autograd.grad(packed.loss + packed.z_q.square().sum(), z_e))
    assert_close(heads.parts[0].state_dict(), alone.state_dict())
    assert torch.equal(heads.encode(z_e)[0, 0], alone.encode(z_e[0, 0].view(3, 2)).flatten())


def test_heads_with_one_codebook_save_it_once_and_start_it_from_all_heads():
    heads = ProductConfig(quantizer=EMAConfig(codebook_size=4), parts=2, shared=True).build(2)
    assert sum(name.endswith("entries") for name in heads.state_dict()) == 1
    heads(torch.tensor([[0.0, 10.0], [1.0, 11.0]]).repeat(5, 1))
    assert sorted(heads.codebooks()[0].entries.flatten().tolist()) == [0, 1, 10, 11]


def test_a_grouped_residual_quantizer_is_a_product_of_residual_ones():
    stages = ResidualConfig(quantizer=VQConfig(codebook_size=SIZE), stages=3)
    grouped = ProductConfig(quantizer=stages, parts=2).build(4)
    grouped.initialize(torch.randn(200, 4), seed=0)
    assert grouped.codebook_sizes == (SIZE,) * 6
    z_e = torch.randn(30, 4)
    out = grouped(z_e)
    books = grouped.codebooks()
    for group in range(2):
        left = z_e[:, 2 * group : 2 * group + 2]
        for stage in range(3):
            entries = books[3 * group + stage].entries.data
            chosen = torch.cdist(left, entries).argmin(-1)
            assert torch.equal(out.indices[:, 3 * group + stage], chosen)
            left = left - entries[chosen]
        taken = z_e[:, 2 * group : 2 * group + 2] - left
        assert_close(out.z_q[:, 2 * group : 2 * group + 2], taken)


def test_heads_may_be_residual_quantizers_that_share_all_stages():
    inner = Residual([part(2, VectorQuantizer) for _ in range(3)])
    heads, z_e = Product([inner] * 2), torch.randn(30, 4)
    indices = heads.encode(z_e)
    assert torch.equal(indices[:, :3], inner.encode(z_e[:, :2]))
    assert torch.equal(indices[:, 3:], inner.encode(z_e[:, 2:]))
    expected = torch.cat([inner.decode(indices[:, :3]), inner.decode(indices[:, 3:])], -1)
    assert torch.equal(heads.decode(indices), expected)
    assert torch.equal(heads(z_e).indices, indices)


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="3 parts do not divide vectors of length 4"):
        ProductConfig(parts=3).build(4)
    one = part(2, VectorQuantizer)
    with pytest.raises(ValueError, match="share all or none"):
        Product([one, one, part(2, VectorQuantizer)])


def test_nothing_and_what_is_no_quantizer_are_refused():
    with pytest.raises(ValueError, match="there are no quantizers; give one at least"):
        Product([])
    with pytest.raises(TypeError, match="one of the quantizers is 3; give quantizers"):
        Product([3])  # pyright: ignore


def test_terms_are_means_over_the_coordinates_of_all_parts():
    layer = Product([part(2, VectorQuantizer), part(6, VectorQuantizer)]).eval()
    z_e = torch.cat([5 * torch.randn(50, 2), torch.randn(50, 6)], -1)
    out = layer(z_e)
    expected = (out.z_q - z_e).square().mean()
    assert_close(out.terms["commitment"].value, expected)
    assert_close(out.terms["codebook"].value, expected)
    assert_close(out.loss, 1.25 * expected)
