"""Two processes equal one process on the joined batch, for every quantizer."""

from collections.abc import Callable
from unittest import mock

import pytest
import torch
from tests.pair import run_pair
from torch import Tensor, nn
from torch.testing import assert_close

from vqkit import distributed
from vqkit.quantizers import (
    Balanced,
    Codebook,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    Hiding,
    IndexBackpropQuantizer,
    LatentQuantizer,
    LookupFreeQuantizer,
    Normalized,
    Product,
    Quantized,
    Quantizer,
    Regularized,
    Residual,
    Sampled,
    Selective,
    SimVQuantizer,
    StochasticQuantizer,
    VectorQuantizer,
    codebook,
)

DIM, SIZE, RATE = 4, 16, 0.05


def selective(inner: Quantizer | None = None, **options: object) -> Selective:
    state = torch.get_rng_state()
    torch.manual_seed(0)  # scores of the same weights on both ranks
    found = Selective(inner or ema(), **options)  # pyright: ignore
    torch.set_rng_state(state)
    found.seed.fill_(torch.randint(2**62, ()))  # pyright: ignore
    return found


def given() -> Codebook:
    entries = torch.linspace(-9, 9, SIZE * DIM).sin().view(SIZE, DIM)
    return Codebook.from_entries(entries)


def ema(dim: int = DIM, **options: object) -> EMAVectorQuantizer:
    return EMAVectorQuantizer(dim, SIZE, decay=0.9, **options)  # pyright: ignore


def sharing(dim: int) -> Product:
    first = ema(dim)
    return Product([first, ema(dim, codebook=first.codebook)])


# Without what begins from random numbers of each rank and is not started from data, projections:
# there the training engine copies the first rank's parameters.
KINDS: dict[str, Callable[[], Quantizer]] = {
    "vq": lambda: VectorQuantizer(DIM, SIZE),
    "ema": ema,
    "layernorm vq": lambda: Normalized(VectorQuantizer(DIM, SIZE), "layernorm"),
    "l2 ema": lambda: Normalized(ema(), "l2"),
    "cosine ema": lambda: ema(metric="cosine"),
    "sampled ema": lambda: ema(assignment=Sampled(temperature=0.5)),
    "balanced vq": lambda: VectorQuantizer(DIM, SIZE, assignment=Balanced()),
    "simvq": lambda: SimVQuantizer(DIM, SIZE),
    "gumbel": lambda: GumbelQuantizer(DIM, SIZE),
    "sq": lambda: StochasticQuantizer(DIM, SIZE),
    "ibq": lambda: IndexBackpropQuantizer(DIM, SIZE),
    "ema from data": lambda: ema(start="data"),
    "vq from normal": lambda: VectorQuantizer(DIM, SIZE, start="normal"),
    "residual ema": lambda: Residual([ema(), ema()]),
    "residual dropout": lambda: Residual([ema(), ema()], dropout=0.5),
    "heads": lambda: Product([ema(DIM // 2)] * 2),
    "product": lambda: Product([ema(1), ema(DIM - 1)]),
    "product sharing": lambda: sharing(DIM // 2),
    "residual of given": lambda: Residual([ema(codebook=given()), ema()]),
    "selective": selective,
    "selective hiding": lambda: selective(keep=1, hiding=Hiding(share=0.5)),
    "regularized vq": lambda: Regularized(
        VectorQuantizer(DIM, SIZE), orthogonality=5, diversity=0.5, certainty=0.5
    ),
    "regularized residual": lambda: Regularized(
        Residual([ema(), ema()]), diversity=0.5, certainty=0.5
    ),
    # What starts from no data, so that nobody gives its random numbers a seed.
    "given sampled ema": lambda: ema(codebook=given(), assignment=Sampled(temperature=0.5)),
    "residual fsq": lambda: Residual([FiniteScalarQuantizer([5] * DIM)] * 2, dropout=0.5),
    "selective fsq": lambda: selective(FiniteScalarQuantizer([5] * DIM)),
    "lfq": lambda: LookupFreeQuantizer(DIM),
    "latent": lambda: LatentQuantizer([5] * DIM),
}
# No entries, or all in use.
NOTHING_DIES = {"lfq", "balanced vq", "residual fsq", "selective fsq", "latent"}
STARTS = ("first batch", "engine")
CASES = [(kind, start) for kind in KINDS for start in STARTS]
Batch = tuple[Tensor, Tensor]


def steps() -> list[list[list[Batch]]]:
    """Vectors and masks of each rank, in each micro-batch, in each step."""
    generator = torch.Generator().manual_seed(0)

    def part(num: int, *, real: float = 0.7, shift: float = 0.0) -> Batch:
        z_e = torch.randn(num, DIM, dtype=torch.float64, generator=generator)
        z_e[:, 0] += shift
        return z_e, torch.rand(num, generator=generator) < real

    both = [[part(40), part(25)], [part(30, real=0.2), part(10)]]
    odd = [
        [[part(40), part(10, real=0.0)]],  # a rank without real vectors
        [[part(40), part(0)], [part(0), part(5)]],  # a rank without vectors
        [[part(10, real=0.0), part(5, real=0.0)]],  # a step without real vectors
    ]
    drift = [[[part(90, shift=by), part(70, shift=by)]] for by in (4, 4, 4, -4, -4, -4)]
    return [both, *odd, *drift, both, *drift]


def empty_first_steps() -> list[list[list[Batch]]]:
    """The batch that would start the codebook has no real vectors on a rank, then on both."""
    z_e = torch.linspace(-1, 1, 30 * DIM, dtype=torch.float64).sin().reshape(30, DIM)
    none, all_ = torch.zeros(30, dtype=torch.bool), torch.ones(30, dtype=torch.bool)
    return [[[(z_e, none), (z_e, none)]], [[(z_e, none), (z_e + 1, all_)]]]


def run(kind: str, start: str, batches: list[list[list[Batch]]]) -> dict[str, Tensor]:
    """The final state, the losses, and how many entries were revived; on one process or on two."""
    torch.manual_seed(distributed.rank())  # ranks begin with other entries and other seeds
    layer = KINDS[kind]().double()
    layer.commit_in_forward = False
    if start == "engine":
        z_e, mask = zip(*batches[0][0], strict=True)
        layer.initialize(torch.cat(z_e)[torch.cat(mask)], seed=3)
    revived, losses = torch.zeros((), dtype=torch.int64), []

    def counted(*args: object) -> object:
        found = replacements(*args)  # pyright: ignore[reportArgumentType]
        revived.add_(found.accepted.sum())
        return found

    replacements = codebook.replacements
    with mock.patch.object(codebook, "replacements", counted):
        for step in batches:
            parts = [mine(micro_batch) for micro_batch in step]
            losses.append(descend(layer, [(layer(*part), part[1]) for part in parts]))
            layer.commit()
    return layer.state_dict() | {"losses": torch.stack(losses), "revived": revived}


def mine(micro_batch: list[Batch]) -> Batch:
    """This rank's part, or all parts when alone."""
    if distributed.is_distributed():
        return micro_batch[distributed.rank()]
    z_e, masks = zip(*micro_batch, strict=True)
    return torch.cat(z_e), torch.cat(masks)


def descend(layer: nn.Module, outputs: list[tuple[Quantized, Tensor]]) -> Tensor:
    """One step of gradient descent on the mean over ranks and micro-batches; its value.

    The decoder asks for short vectors, which reaches what its gradient alone trains.
    """
    total = sum(out.objective.total + out.z_q[mask].square().sum() for out, mask in outputs)
    count = distributed.all_reduce(torch.stack([o.objective.count for o, _ in outputs]).sum())
    loss = total / count.clamp(min=1)
    parameters = [parameter for parameter in layer.parameters() if parameter.requires_grad]
    found = torch.autograd.grad(loss, parameters) if parameters else ()
    for parameter, gradient in zip(parameters, found, strict=True):
        parameter.data -= RATE * distributed.all_reduce(gradient)
    return distributed.all_reduce(loss.detach().clone())


def everything(kinds: list[str]) -> dict[str, dict[str, Tensor]]:
    cases = [(kind, start) for kind in kinds for start in STARTS]
    found = {f"{kind}, {start}": run(kind, start, steps()) for kind, start in cases}
    return found | {kind: run(kind, "first batch", empty_first_steps()) for kind in kinds}


@pytest.fixture(scope="module")
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[str, dict[str, Tensor]]]:
    """Of the kinds alone whose tests were asked for."""
    asked = [item for item in request.session.items if item.path == request.path]
    wanted = {item.callspec.params["kind"] for item in asked}  # pyright: ignore
    kinds = [kind for kind in KINDS if kind in wanted]  # in one order on both ranks
    return run_pair(everything, tmp_path_factory.mktemp("pair"), kinds)


@pytest.mark.parametrize(("kind", "start"), CASES)
def test_all_ranks_hold_the_same_codebook(pair: list, kind: str, start: str):
    first, second = (one[f"{kind}, {start}"] for one in pair)
    assert_close(first, second, rtol=0, atol=0)


@pytest.mark.parametrize(("kind", "start"), CASES)
def test_two_processes_equal_one_on_the_joined_batch(pair: list, kind: str, start: str):
    """Start, revival, unequal masks, accumulation and ranks without vectors included."""
    alone = run(kind, start, steps())
    together = pair[1][f"{kind}, {start}"]
    assert together["revived"] == alone["revived"]
    assert (alone["revived"] > 0) == (kind not in NOTHING_DIES)
    assert_close(together, alone, rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_a_first_batch_that_is_empty_on_some_ranks_hangs_nobody(pair: list, kind: str):
    alone = run(kind, "first batch", empty_first_steps())
    for one in pair:
        assert_close(one[kind], alone, rtol=0, atol=1e-9)
