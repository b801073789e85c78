"""What must hold for rotations that are learned from data."""

import pytest
import torch
from scipy.linalg import orthogonal_procrustes
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import EMAVectorQuantizer, FiniteScalarQuantizer, Product, Rotated
from vqkit.quantizers.rotated import best_rotation

DIM = 4


def product(size: int = 8) -> Product:
    return Product([EMAVectorQuantizer(2, size), EMAVectorQuantizer(2, size)])


def hidden_pairs(num: int = 2000) -> Tensor:
    """Vectors of two pairs of coordinates, each on few points, turned so that no pair is seen."""
    generator = torch.Generator().manual_seed(0)
    points = 3 * torch.randn(8, 2, generator=generator)
    pairs = [points[torch.randint(8, (num,), generator=generator)] for _ in range(2)]
    noise = 0.05 * torch.randn(num, DIM, generator=generator)
    turn = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator)).Q
    return (torch.cat(pairs, 1) + noise) @ turn + 10


def error(layer: Product | Rotated, z: Tensor) -> float:
    return float((layer.decode(layer.encode(z)) - z).square().mean())


def test_a_rotation_is_found_that_loses_less_than_none():
    z = hidden_pairs()
    plain, turned = product(), Rotated(product(), iterations=100)
    for layer in (plain, turned):
        layer.initialize(z, seed=0)
    assert error(turned, z) < 0.6 * error(plain, z)


def test_more_iterations_lose_less():
    z = hidden_pairs()
    layers = [Rotated(product(), iterations=number) for number in (0, 5, 40)]
    for layer in layers:
        layer.initialize(z, seed=0)
    errors = [error(layer, z) for layer in layers]
    assert errors == sorted(errors, reverse=True)
    assert errors[2] < 0.8 * errors[0]


def test_without_iterations_nothing_is_turned():
    z, layer, plain = hidden_pairs(), Rotated(product(), iterations=0), product()
    layer.initialize(z, seed=0)
    assert torch.equal(layer.rotation, torch.eye(DIM))
    plain.initialize(z - z.mean(0), seed=0)
    assert torch.equal(layer.encode(z), plain.encode(z - z.mean(0)))


def test_the_rotation_keeps_lengths_and_is_undone():
    layer = Rotated(product(), iterations=10)
    layer.initialize(hidden_pairs(), seed=0)
    product_of_both = layer.rotation.double() @ layer.rotation.double().T
    assert_close(product_of_both, torch.eye(DIM).double(), atol=1e-6, rtol=0)
    z = torch.randn(50, DIM)
    assert_close(layer.turned_back(layer.turned(z)), z, atol=1e-5, rtol=1e-5)
    centred = (z - layer.center).norm(dim=1)
    assert_close(layer.turned(z).norm(dim=1), centred, atol=1e-5, rtol=1e-5)


def test_the_best_rotation_is_that_of_scipy():
    x, y = torch.randn(100, DIM), torch.randn(100, DIM)
    expected, _ = orthogonal_procrustes(x.double().numpy(), y.double().numpy())
    assert_close(best_rotation(x, y).double(), torch.from_numpy(expected), atol=1e-6, rtol=1e-6)


def test_losses_are_those_of_the_vectors_themselves():
    z, layer = hidden_pairs(300), Rotated(product(), iterations=10)
    layer.initialize(z, seed=0)
    out = layer.eval()(z)
    expected = (out.z_q - z).square().mean()
    assert_close(out.terms["commitment"].value, expected, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_the_encoder_is_the_decoders():
    z, layer = hidden_pairs(50).requires_grad_(), Rotated(product(), iterations=5)
    layer.initialize(hidden_pairs(), seed=0)
    weights = torch.randn(50, DIM)
    (layer.eval()(z).z_q * weights).sum().backward()
    assert_close(z.grad, weights, atol=1e-5, rtol=1e-5)


def test_quantizers_without_a_table_are_turned_too():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 2, generator=generator) * torch.tensor([2.0, 0.1])
    z = z @ torch.tensor([[0.6, 0.8], [-0.8, 0.6]])
    layers = [Rotated(FiniteScalarQuantizer((9, 3)), iterations=number) for number in (0, 30)]
    for layer in layers:
        layer.initialize(z, seed=0)
    assert error(layers[1], z) < error(layers[0], z)  # pyright: ignore


def test_what_was_given_keeps_its_entries_and_no_rotation_is_learned():
    inner = product()
    inner.initialize(torch.randn(100, DIM), seed=0)
    before = [book.entries.clone() for book in inner.codebooks()]
    layer = Rotated(inner)
    layer.initialize(hidden_pairs(), seed=0, keep_started=True)
    assert torch.equal(layer.rotation, torch.eye(DIM))
    assert all(torch.equal(a, b.entries) for a, b in zip(before, inner.codebooks(), strict=True))


@pytest.mark.parametrize("iterations", [-1, 1.5])
def test_iterations_that_are_no_number_of_them_are_refused(iterations: int):
    with pytest.raises((ValueError, TypeError), match="iterations is"):
        Rotated(product(), iterations=iterations)
