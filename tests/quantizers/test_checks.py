"""What must hold for options that make no sense: one line that names the option and the fix."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from vqkit.quantizers import (
    Annealing,
    Balanced,
    BinarySphericalQuantizer,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    LatentQuantizer,
    LFQConfig,
    LookupFreeQuantizer,
    MultiScaleResidual,
    Product,
    Quantizer,
    RandomProjectionQuantizer,
    Regularized,
    RegularizedConfig,
    Residual,
    Sampled,
    Selective,
    VectorQuantizer,
)

DIM, SIZE = 4, 8
OPTIONS: dict[str, Callable[[object], Quantizer]] = {
    "commitment": lambda x: VectorQuantizer(DIM, SIZE, commitment=x),  # pyright: ignore
    "dead_after": lambda x: VectorQuantizer(DIM, SIZE, dead_after=x),  # pyright: ignore
    "decay": lambda x: EMAVectorQuantizer(DIM, SIZE, decay=x),  # pyright: ignore
    "decay_warmup": lambda x: EMAVectorQuantizer(DIM, SIZE, decay_warmup=x),  # pyright: ignore
    "temperature": lambda x: LookupFreeQuantizer(DIM, temperature=x),  # pyright: ignore
    "certainty": lambda x: BinarySphericalQuantizer(DIM, certainty=x),  # pyright: ignore
    "keep": lambda x: Selective(VectorQuantizer(DIM, SIZE), keep=x),  # pyright: ignore
    "dropout": lambda x: Residual([VectorQuantizer(DIM, SIZE)], dropout=x),  # pyright: ignore
    "orthogonality": lambda x: Regularized(VectorQuantizer(DIM, SIZE), orthogonality=x),  # pyright: ignore
}


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("wrong", ["0.5", True, [0.5], 1j])
def test_what_is_no_number_is_refused_by_name(name: str, wrong: object):
    with pytest.raises(TypeError, match=rf"{name} is .*; give a number$"):
        OPTIONS[name](wrong)


@pytest.mark.parametrize("name", OPTIONS)
def test_numbers_of_numpy_are_numbers(name: str):
    OPTIONS[name](np.float32(0.5))


@pytest.mark.parametrize("kind", [LookupFreeQuantizer, BinarySphericalQuantizer])
def test_a_temperature_that_float32_cannot_divide_by_is_refused(
    kind: type[LookupFreeQuantizer | BinarySphericalQuantizer],
):
    with pytest.raises(ValueError, match="temperature is 1e-45; give a number greater than 0"):
        kind(DIM, temperature=1e-45)
    assert kind(DIM, temperature=1e-30)(torch.randn(10, DIM)).loss.isfinite()


@pytest.mark.parametrize(
    "make",
    [
        lambda t: Sampled(temperature=t),
        lambda t: Balanced(softness=t),
        lambda t: Annealing(start=t),
        lambda t: Annealing(end=t),
        lambda t: LFQConfig(temperature=t),
        lambda t: RegularizedConfig(diversity=1, temperature=t),
    ],
)
def test_a_temperature_of_a_config_has_the_same_bound(make: Callable[[float], object]):
    make(1e-30)
    for wrong in (1e-31, 0.0, float("inf")):
        with pytest.raises(ValidationError):
            make(wrong)


@pytest.mark.parametrize(
    "options",
    [
        {"assignment": Sampled(temperature=1e-30)},
        {"assignment": Balanced(softness=1e-30)},
    ],
)
def test_with_the_least_temperature_losses_are_finite_and_the_nearest_are_drawn(options: dict):
    layer = EMAVectorQuantizer(DIM, SIZE, commit_in_forward=False, **options)
    z_e = torch.randn(100, DIM)
    layer.initialize(z_e, seed=0)
    out = layer(z_e)
    assert out.loss.isfinite()
    if isinstance(layer.assignment, Sampled):
        assert torch.equal(out.indices, layer.encode(z_e))


def test_with_the_least_temperature_gumbel_draws_are_hard():
    layer = GumbelQuantizer(DIM, SIZE, annealing=Annealing(start=1e-30, end=1e-30, steps=1))
    z_e = torch.randn(100, DIM, requires_grad=True)
    layer.initialize(z_e.detach(), seed=0)
    out = layer(z_e)
    (gradient,) = torch.autograd.grad(out.loss + out.z_q.square().sum(), z_e)
    assert out.loss.isfinite()
    assert gradient.isfinite().all()
    assert torch.equal(out.z_q, layer.decode(out.indices))


def test_another_default_precision_changes_no_value_of_finite_scalars():
    layer, indices = FiniteScalarQuantizer((8, 5, 5)), torch.arange(200).unsqueeze(-1)
    usual = layer.decode(indices)
    torch.set_default_dtype(torch.float64)
    try:
        assert torch.equal(layer.decode(indices), usual)
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_random_projection_is_rounded_by_no_precision_that_the_user_chose():
    layer = RandomProjectionQuantizer(64, 500)
    z_e = torch.randn(2000, 64)
    indices = layer.encode(z_e)
    values = layer.decode(indices)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(layer.encode(z_e), indices)
        assert torch.equal(layer.decode(indices), values)
    chosen = torch.backends.mkldnn.matmul.fp32_precision  # pyright: ignore
    torch.backends.mkldnn.matmul.fp32_precision = "bf16"  # pyright: ignore
    try:
        assert torch.equal(layer.encode(z_e), indices)
        assert torch.equal(layer.decode(indices), values)
    finally:
        torch.backends.mkldnn.matmul.fp32_precision = chosen  # pyright: ignore


def vq() -> VectorQuantizer:
    return VectorQuantizer(DIM, SIZE)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Residual(vq()), "quantizers is a VectorQuantizer; give a list"),  # pyright: ignore
        (lambda: Product(vq()), "quantizers is a VectorQuantizer; give a list"),  # pyright: ignore
        (lambda: MultiScaleResidual(vq(), [1]), "quantizers is a VectorQuantizer; give a list"),  # pyright: ignore
        (lambda: MultiScaleResidual([vq()], 3), "scales is 3; give a list of grids"),  # pyright: ignore
        (lambda: MultiScaleResidual([vq()], [2.0]), "give integers, or tuples of them"),  # pyright: ignore
        (lambda: MultiScaleResidual([vq()], [(2, 2.0)]), "give integers, or tuples of them"),  # pyright: ignore
        (lambda: MultiScaleResidual([vq()], [3]).decode([1]), "indices: give a tensor"),  # pyright: ignore
        (lambda: MultiScaleResidual([vq()], [3]).decode(None), "indices: give a tensor"),  # pyright: ignore
        (lambda: FiniteScalarQuantizer(8), "levels is 8; give a number of values for each"),  # pyright: ignore
        (lambda: LatentQuantizer(8), "levels is 8; give a number of values for each"),  # pyright: ignore
        (lambda: VectorQuantizer(DIM, SIZE, revive="no"), "revive is 'no'; give True or False"),  # pyright: ignore
        (
            lambda: EMAVectorQuantizer(DIM, SIZE, commit_in_forward="no"),  # pyright: ignore
            "commit_in_forward is 'no'; give True or False",
        ),
        (
            lambda: LookupFreeQuantizer(DIM, commit_in_forward="no"),  # pyright: ignore
            "commit_in_forward is 'no'; give True or False",
        ),
    ],
)
def test_what_is_of_another_kind_is_refused_in_one_line(make: Callable[[], object], match: str):
    with pytest.raises(TypeError, match=f"^.*{match}[^\n]*$"):
        make()


@pytest.mark.parametrize("option", ["start", "gradient", "metric"])
@pytest.mark.parametrize("wrong", [["kmeans"], {"rotation": 1}, 3, None])
def test_a_choice_that_is_no_name_is_refused_in_one_line(option: str, wrong: object):
    with pytest.raises(ValueError, match=f"^{option} is [^\n]*; give [^\n]*$"):
        VectorQuantizer(DIM, SIZE, **{option: wrong})  # pyright: ignore[reportArgumentType]


def test_integers_are_the_sides_of_squares():
    one = vq()
    squares = MultiScaleResidual([one] * 2, [1, 3])
    assert squares.scales == MultiScaleResidual([one] * 2, [(1, 1), (3, 3)]).scales
