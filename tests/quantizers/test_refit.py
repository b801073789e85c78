"""What must hold when entries are refitted to a data set."""

import copy
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tests.pair import run_pair
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.data import DataLoader, TensorDataset

from vqkit import distributed
from vqkit.quantizers import (
    Codebook,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    GumbelQuantizer,
    IndexBackpropQuantizer,
    MultiScaleResidual,
    Normalized,
    NotFinite,
    Product,
    Projected,
    Quantizer,
    Residual,
    Selective,
    SimVQuantizer,
    VectorQuantizer,
)
from vqkit.quantizers.base import squared_errors

DIM, SIZE = 4, 16


def ema(dim: int = DIM, **options: object) -> EMAVectorQuantizer:
    return EMAVectorQuantizer(dim, SIZE, **options)  # pyright: ignore


KINDS: dict[str, Callable[[], Quantizer]] = {
    "ema": ema,
    "vq": lambda: VectorQuantizer(DIM, SIZE),
    "cosine ema": lambda: ema(metric="cosine"),
    "cosine vq": lambda: VectorQuantizer(DIM, SIZE, metric="cosine"),
    "simvq": lambda: SimVQuantizer(DIM, SIZE),
    "cosine simvq": lambda: SimVQuantizer(DIM, SIZE, metric="cosine"),
    "gumbel": lambda: GumbelQuantizer(DIM, SIZE),
    "ibq": lambda: IndexBackpropQuantizer(DIM, SIZE),
    "layernorm ema": lambda: Normalized(ema(), "layernorm"),
    "projected vq": lambda: Projected(VectorQuantizer(3, SIZE), DIM),
    "product": lambda: Product([ema(1), ema(DIM - 1)]),
    "heads": lambda: Product([ema(2)] * 2),
    "residual": lambda: Residual([ema() for _ in range(3)]),
    "residual shared": lambda: Residual([ema()] * 3),
    "residual beams": lambda: Residual([ema(), ema()], beams=3),
    "residual mixed": lambda: Residual([FiniteScalarQuantizer((3,) * DIM), ema()]),
    "residual of products": lambda: Residual([Product([ema(2), ema(2)]) for _ in range(2)]),
    "grouped residual": lambda: Product([Residual([ema(2), ema(2)]) for _ in range(2)]),
    "selective residual": lambda: Selective(Residual([ema(), ema()])),
}


def data(num: int = 600, *, seed: int = 0) -> Tensor:
    """Vectors far from where the codebooks below were started. (num, DIM)"""
    generator = torch.Generator().manual_seed(seed)
    z_e = torch.randn(num, DIM, generator=generator)
    return z_e * torch.tensor([3.0, 1, 1, 0.3]) + torch.tensor([1.0, 0, -2, 0])


@pytest.fixture(params=KINDS)
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    """Started from some of the data, moved away from them."""
    torch.manual_seed(0)
    made = KINDS[request.param]()
    made.initialize(data(20), seed=0)
    with torch.no_grad():
        for module in made.modules():
            if isinstance(module, Codebook):
                module.entries += 0.5 * torch.randn_like(module.entries)
            if isinstance(module, Codebook) and hasattr(module, "weight"):
                module.weight += 0.3 * torch.randn(DIM, DIM)  # pyright: ignore
    return made


def errors_of(quantizer: Quantizer, z_e: Tensor) -> dict[Codebook, float]:
    """The error of each codebook over what it sees, by brute force in float64."""
    found: dict[Codebook, list[Tensor]] = {}
    for book, vectors in quantizer.seen(z_e):
        gaps = (vectors.double().unsqueeze(1) - book.table.double()).square().mean(-1)
        found.setdefault(book, []).append(gaps.amin(1))
    return {book: float(torch.cat(gaps).mean()) for book, gaps in found.items()}


@torch.no_grad()
def test_the_error_of_every_codebook_falls_and_never_grows(quantizer: Quantizer):
    z_e = data()
    first = quantizer.codebooks()[0]
    before = errors_of(quantizer, z_e)[first]
    found = quantizer.refit(list(z_e.split(150)), passes=6)
    after = errors_of(quantizer, z_e)
    assert len(found) == len(quantizer.codebooks())
    for book, errors in zip(quantizer.codebooks(), found, strict=True):
        assert list(errors) == sorted(errors, reverse=True)
        assert errors[-1] == pytest.approx(after[book], rel=1e-5)
        assert errors[-1] < errors[0]
    assert found[0][0] == pytest.approx(before, rel=1e-5)


@torch.no_grad()
def test_what_codebooks_see_is_what_they_choose_by(quantizer: Quantizer):
    z_e = data(200)
    seen = list(quantizer.seen(z_e))
    assert len(seen) == len(quantizer.codebooks())
    if not any(isinstance(m, Residual) and m.beams > 1 for m in quantizer.modules()):
        columns = dict(zip(quantizer.codebook_names, quantizer.encode(z_e).unbind(-1), strict=True))
        kept = columns.get("kept", torch.ones(len(z_e))) > 0
        for name, (book, vectors) in zip(quantizer.named_codebooks(), seen, strict=True):
            assert book is quantizer.named_codebooks()[name]
            assert torch.equal(book.nearest(vectors), columns[name][kept])


@pytest.mark.parametrize("shared", [False, True])
@torch.no_grad()
def test_scales_over_a_grid_are_refitted_from_coarse_to_fine(shared: bool):
    made = [ema()] * 2 if shared else [ema(), ema()]
    quantizer, z_e = MultiScaleResidual(made, [(1, 2), (4, 4)]), data(40 * 16).view(40, 4, 4, DIM)
    mask = torch.arange(40).view(40, 1, 1) + torch.zeros(4, 4) < 30
    mask[0, :, 2:] = False
    padded = z_e.masked_fill(~mask.unsqueeze(-1), torch.nan)
    quantizer.initialize(z_e[:3] + 1, seed=0)
    before = float((quantizer.decode(quantizer.encode(z_e[:30])) - z_e[:30]).square().mean())
    found = quantizer.refit([(padded[:7], mask[:7]), (padded[7:], mask[7:])], passes=6)
    after = float((quantizer.decode(quantizer.encode(z_e[:30])) - z_e[:30]).square().mean())
    assert after < before
    assert len(found) == (1 if shared else 2)
    for errors in found:
        assert list(errors) == sorted(errors, reverse=True)
        assert errors[-1] < errors[0]
    if not shared:
        coarse, fine = (int(book.average_counts.sum() * 2) for book in quantizer.codebooks())
        assert (coarse, fine) == (30 * 2 - 1, 30 * 16 - 8)  # real cells


@torch.no_grad()
def test_an_entry_becomes_the_exact_mean_of_its_vectors_whatever_moves_it():
    for kind in (EMAVectorQuantizer, VectorQuantizer):
        layer, z_e = kind(DIM, SIZE), data()
        layer.initialize(data(500, seed=1), seed=0)
        indices = layer.encode(z_e).squeeze(-1)
        layer.refit(list(z_e.split(7)), passes=1)
        assert len(indices.unique()) == SIZE
        for k in range(SIZE):
            mean = z_e[indices == k].double().mean(0)
            assert_close(layer.codebook.entries[k].double(), mean, rtol=0, atol=1e-6)
        assert layer.codebook.entries.requires_grad is (kind is VectorQuantizer)


@torch.no_grad()
def test_on_the_sphere_an_entry_becomes_the_mean_direction():
    layer, z_e = ema(metric="cosine"), data()
    layer.initialize(data(500, seed=1), seed=0)
    indices = layer.encode(z_e).squeeze(-1)
    layer.refit([z_e], passes=1)
    for k in indices.unique():
        mean = F.normalize(F.normalize(z_e[indices == k].double(), dim=-1).mean(0), dim=0)
        assert_close(layer.codebook.entries[k].double(), mean, rtol=0, atol=1e-6)


@torch.no_grad()
def test_entries_that_serve_nobody_go_where_the_error_is():
    """All but one entry are far from all vectors."""
    entries = torch.full((SIZE, DIM), 1e3)
    entries[0] = 0
    layer, z_e = ema(codebook=Codebook.from_entries(entries)), data()
    (errors,) = layer.refit([z_e], passes=1)
    table = layer.codebook.entries
    assert len(table.unique(dim=0)) == SIZE
    assert (torch.cdist(table[1:], z_e).amin(1) == 0).all()  # each is a vector
    assert errors[1] < 0.5 * errors[0]
    layer.refit([z_e], passes=9)
    assert len(layer.encode(z_e).unique()) == SIZE


@torch.no_grad()
def test_a_stage_is_fitted_to_what_the_stages_before_leave_at_last():
    stages, z_e = [ema(), ema()], data()
    together = Residual(copy.deepcopy(stages))
    together.initialize(data(400, seed=1), seed=0)
    first, second = (copy.deepcopy(stage) for stage in together.parts)
    together.refit([z_e])
    first.refit([z_e])
    second.refit([z_e - first.decode(first.encode(z_e))])
    for part, alone in zip(together.parts, (first, second), strict=True):
        assert_close(part.state_dict(), alone.state_dict(), rtol=0, atol=0)


@torch.no_grad()
def test_neither_padding_nor_the_size_of_batches_matters(quantizer: Quantizer):
    twin, z_e = copy.deepcopy(quantizer), data(400)
    quantizer.initialize(z_e, seed=0)  # all entries are used: nothing is drawn
    if isinstance(quantizer, Selective):
        quantizer.keep = twin.keep = (
            1  # or entries that were started from the others would be unused
        )
    twin.load_state_dict(quantizer.state_dict())
    padded = torch.full((8, 70, DIM), torch.nan)
    mask = torch.zeros(8, 70, dtype=torch.bool)
    padded[:, 5:55], mask[:, 5:55] = z_e.view(8, 50, DIM), True
    quantizer.refit(
        [(padded[:5], mask[:5]), (padded[5:], mask[5:]), (padded[:1], mask[:1] & False)]
    )
    twin.refit([z_e[:10], z_e[10:10], z_e[10:]])
    assert_close(quantizer.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_the_averages_are_those_of_the_data_afterwards():
    layer, z_e = ema(), data()
    layer.initialize(data(50, seed=1), seed=0)
    layer.refit(list(z_e.split(60)))
    book, indices = layer.codebook, layer.encode(z_e).squeeze(-1)
    assert_close(book.average_counts, indices.bincount(minlength=SIZE) / 10)
    assert_close(book.average_sums, book.average_counts.unsqueeze(-1) * book.entries)
    assert book.usage().used == len(indices.unique())
    before = book.entries.clone()
    layer.train()(z_e[:60])
    assert (book.entries - before).abs().amax() < 0.1  # and training goes on from there


@torch.no_grad()
def test_what_does_not_move_any_more_is_not_read_again():
    class Counted(list):
        reads = 0

        def __iter__(self) -> Iterator[Tensor]:
            self.reads += 1
            return super().__iter__()

    layer, batches = ema(), Counted([data()])
    layer.initialize(data(), seed=0)
    layer.refit(batches, passes=200)
    assert batches.reads < 100
    before, batches.reads = copy.deepcopy(layer.state_dict()), 0
    (errors,) = layer.refit(batches)
    assert len(errors) == batches.reads == 1
    assert_close(layer.state_dict(), before, rtol=0, atol=0)


@torch.no_grad()
def test_vectors_of_half_precision_are_read_as_they_are():
    layer, twin = ema(), ema()
    z_e = data().bfloat16()
    layer.initialize(data(100), seed=0)
    twin.load_state_dict(layer.state_dict())
    assert layer.refit([z_e]) == twin.refit([z_e.float()])


class Blind(Quantizer):
    """A quantizer of somebody else's, which does not tell what its codebook sees."""

    def __init__(self) -> None:
        super().__init__(DIM)
        self.inner = ema()
        self.inner.initialize(data(), seed=0)

    codebook_sizes = (SIZE,)

    def forward(self, z_e, mask=None):
        return self.inner(z_e, mask)

    def encode(self, z_e, mask=None):
        return self.inner.encode(z_e, mask)

    def decode(self, indices):
        return self.inner.decode(indices)

    def codebooks(self):
        return self.inner.codebooks()


def started() -> Residual:
    layer = Residual([ema(), ema()])
    layer.initialize(data(), seed=0)
    return layer


def frozen() -> Residual:
    layer = started()
    layer.codebooks()[1].freeze()
    return layer


NAN = data().index_fill(0, torch.tensor([3, 5]), torch.nan)


@pytest.mark.parametrize(
    ("make", "batches", "options", "error", "match"),
    [
        (frozen, [data()], {}, ValueError, r"frozen; call its freeze\(False\)"),
        (ema, [data()], {}, ValueError, "has not started; call initialize"),
        (
            lambda: FiniteScalarQuantizer((3,) * DIM),
            [data()],
            {},
            ValueError,
            "no learned codebook",
        ),
        (started, [data()], {"passes": 0}, ValueError, "passes is 0"),
        (started, [], {}, ValueError, "no real vectors"),
        (started, [data(0)], {}, ValueError, "no real vectors"),
        (started, [data(), NAN], {}, NotFinite, "2 vectors of a batch are not finite"),
        (started, [data()[:, :3]], {}, ValueError, "the 4 coordinates"),
        (started, (z for z in [data()]), {}, TypeError, "generator, which can be read once"),
        (Blind, [data()], {}, TypeError, "Blind does not tell what its codebooks see"),
    ],
)
def test_what_cannot_be_refitted_is_refused_and_nothing_changes(
    make: Callable[[], Quantizer], batches, options: dict, error: type[Exception], match: str
):
    layer = make()
    before = copy.deepcopy(layer.state_dict())
    with pytest.raises(error, match=match):
        layer.refit(batches, **options)
    assert_close(layer.state_dict(), before, rtol=0, atol=0)


PAIRED = ("ema", "cosine vq", "simvq", "heads", "residual", "grouped residual")


def refitted(kind: str) -> tuple[dict[str, Tensor], tuple[tuple[float, ...], ...]]:
    """The state after a refit, and the errors; each rank has its part of each batch."""
    torch.manual_seed(0)
    layer: nn.Module = KINDS[kind]().double()
    layer.initialize(data(20).double() + 10, seed=0)  # most entries serve nobody at first
    batches = []
    for number, z_e in enumerate(data(400).double().split(100)):
        cut = (0, 100, 30, 55)[number]  # a rank may have no vectors
        if distributed.is_distributed():
            z_e = z_e[:cut] if distributed.rank() == 0 else z_e[cut:]
        batches.append(z_e)
    errors = layer.refit(batches, passes=4)
    return layer.state_dict(), errors


def all_refitted() -> dict[str, tuple]:
    return {kind: refitted(kind) for kind in PAIRED}


def unequal() -> str:
    layer = started()
    with pytest.raises(ValueError, match=r"batches has \[1, 2\] elements on different ranks") as e:
        layer.refit([data()] * (1 + distributed.rank()))
    return str(e.value)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, tuple]]:
    return run_pair(all_refitted, tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize("kind", PAIRED)
def test_two_processes_refit_as_one_on_the_joined_batches(pair: list, kind: str):
    alone = refitted(kind)
    assert_close(pair[0][kind], pair[1][kind], rtol=0, atol=0)
    assert_close(pair[1][kind], alone, rtol=0, atol=1e-9)


def test_ranks_with_unequal_numbers_of_batches_do_not_wait_for_each_other(tmp_path: Path):
    run_pair(unequal, tmp_path)


def test_what_a_codebook_sees_has_the_error_that_training_sees():
    layer, z_e = ema(), data()
    layer.initialize(z_e, seed=0)
    out = layer.eval()(z_e)
    by_layer = squared_errors(z_e, out.z_q).mean()
    assert layer.refit([z_e], passes=1)[0][0] == pytest.approx(float(by_layer), rel=1e-5)


def test_the_lists_that_a_loader_makes_are_batches_with_or_without_masks():
    torch.manual_seed(0)
    z_e, mask = torch.randn(90, 3, DIM), torch.rand(90, 3) < 0.7
    for tensors in ((z_e,), (z_e, mask)):
        loader = DataLoader(TensorDataset(*tensors), batch_size=30)
        cut = list(zip(*(tensor.split(30) for tensor in tensors), strict=True))
        first, second = ema(), ema()
        for one in (first, second):
            one.initialize(z_e, seed=0)
        expected = first.refit([batch if len(batch) == 2 else batch[0] for batch in cut])
        assert second.refit(loader) == expected
        assert torch.equal(first.codebook.entries, second.codebook.entries)


@pytest.mark.parametrize(
    ("batch", "match"),
    [
        ({"x": torch.zeros(5, DIM)}, "a batch is of dict; give a tensor, or"),
        ([torch.zeros(5, DIM), None, None], "a batch is of Tensor, NoneType, NoneType; give"),
        ([], "a batch is of nothing; give"),
        ("z_e", "a batch is of str; give"),
        (torch.zeros(5, DIM, dtype=torch.int64), "int64; give floating-point numbers"),
        ([torch.zeros(5, DIM, dtype=torch.int64)], "int64; give floating-point numbers"),
    ],
)
def test_what_is_no_batch_is_refused_in_one_line(batch: object, match: str):
    layer = ema()
    layer.initialize(torch.randn(100, DIM), seed=0)
    with pytest.raises(TypeError, match=match):
        layer.refit([batch])  # pyright: ignore[reportArgumentType]
