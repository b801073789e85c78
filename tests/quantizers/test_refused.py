"""What is refused has changed nothing of what it was given."""

from collections.abc import Callable, Sequence
from inspect import signature

import pytest
from torch import nn

from vqkit.quantizers import (
    Codebook,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    IndexBackpropQuantizer,
    LookupFreeQuantizer,
    MultiScaleResidual,
    Normalized,
    Product,
    Projected,
    Quantizer,
    Regularized,
    Residual,
    Selective,
    SimVQuantizer,
    StochasticQuantizer,
    VectorQuantizer,
)
from vqkit.quantizers.simvq import LinearCodebook

DIM, SIZE = 4, 8


def vq(size: int = SIZE, **options: object) -> VectorQuantizer:
    return VectorQuantizer(DIM, size, **options)  # pyright: ignore


def fsq() -> FiniteScalarQuantizer:
    return FiniteScalarQuantizer([5] * DIM)


# Parts, and what does not hold them.
REFUSED: dict[str, tuple[Callable[[], list[Quantizer]], Callable[[list], Quantizer]]] = {
    "beams": (lambda: [fsq(), fsq()], lambda parts: Residual(parts, beams=2)),
    "no beams": (lambda: [vq(), vq()], lambda parts: Residual(parts, beams=0)),
    "dropout": (lambda: [vq(), vq()], lambda parts: Residual(parts, dropout=2)),
    "lengths": (lambda: [vq(), LookupFreeQuantizer(2)], Residual),
    "normalized stage": (lambda: [Normalized(vq()), vq()], Residual),
    "cosine stage": (lambda: [vq(), vq(metric="cosine")], Residual),
    "selective stage": (lambda: [Selective(vq()), vq()], Residual),
    "projected stage": (lambda: [Projected(LookupFreeQuantizer(2), DIM)], Residual),
    "gradients": (lambda: [vq(), vq(gradient="rotation")], Residual),
    "gradients inside": (lambda: [Product([vq(gradient="rotation")]), vq()], Residual),
    "some shared stages": (lambda: [vq(), vq()], lambda parts: Residual([*parts, parts[0]])),
    "some shared parts": (lambda: [vq(), vq()], lambda parts: Product([*parts, parts[0]])),
    "scales of scales": (
        lambda: [MultiScaleResidual([vq()], [(2,)])],
        lambda parts: MultiScaleResidual(parts, [(2,)]),
    ),
    "part of scales": (lambda: [vq(), MultiScaleResidual([vq()], [(2,)])], Product),
    "unequal scales": (
        lambda: [vq(), vq(SIZE + 1)],
        lambda parts: MultiScaleResidual(parts, [(1,), (2,)]),
    ),
    "scales that shrink": (
        lambda: [vq(), vq()],
        lambda parts: MultiScaleResidual(parts, [(2,), (1,)]),
    ),
    "orthogonality": (
        lambda: [EMAVectorQuantizer(DIM, SIZE)],
        lambda parts: Regularized(*parts, orthogonality=1),
    ),
    "temperature": (lambda: [vq()], lambda parts: Regularized(*parts, temperature=0)),
    "certainty": (lambda: [vq()], lambda parts: Regularized(*parts, certainty=-1)),
    "how": (lambda: [vq()], lambda parts: Normalized(*parts, how="no")),
    "keep": (lambda: [vq()], lambda parts: Selective(*parts, keep=2)),
    "hiding": (lambda: [vq()], lambda parts: Selective(*parts, hiding=1)),
    "dim": (lambda: [vq()], lambda parts: Projected(*parts, 0)),
}


def options(parts: Sequence[Quantizer]) -> list[tuple[object, ...]]:
    """What a composition sets on all that is inside it."""
    inside: list[nn.Module] = [module for part in parts for module in part.modules()]
    return [
        (one.commit_in_forward, one.passes_gradient, one.squashes, len(one._forward_hooks))
        for one in inside
        if isinstance(one, Quantizer)
    ]


@pytest.mark.parametrize("name", REFUSED)
def test_a_composition_that_is_refused_leaves_its_parts_as_they_were(name: str):
    make, hold = REFUSED[name]
    parts = make()
    before = options(parts)
    with pytest.raises((ValueError, TypeError), match=r"[;,] (give|put|share|take|make)"):
        hold(parts)
    assert options(parts) == before


WRONG: dict[str, object] = {
    "commitment": -1,
    "gradient": "none",
    "assignment": 3,
    "dead_after": 0,
    "metric": "cosine",
    "start": "data",
    "decay": 1,
    "decay_warmup": -1,
    "weight": -1,
    "annealing": 1.0,
}
KINDS = (
    VectorQuantizer,
    EMAVectorQuantizer,
    SimVQuantizer,
    GumbelQuantizer,
    StochasticQuantizer,
    IndexBackpropQuantizer,
)
PAIRS = [
    (kind, option) for kind in KINDS for option in WRONG if option in signature(kind).parameters
]


@pytest.mark.parametrize(("kind", "option"), PAIRS)
def test_a_layer_that_is_refused_has_not_claimed_a_shared_codebook(kind: type, option: str):
    codebook = (LinearCodebook if kind is SimVQuantizer else Codebook)(SIZE, DIM)
    before = codebook.entries.requires_grad
    with pytest.raises((ValueError, TypeError), match=option):
        kind(DIM, SIZE, codebook=codebook, **{option: WRONG[option]})
    assert codebook.moved_by is None
    assert codebook.entries.requires_grad == before
