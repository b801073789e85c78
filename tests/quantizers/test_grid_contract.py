"""What must hold for quantizers that read the grid. A new one is one more line in GRID_CASES."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from tests.pair import run_pair
from torch import Tensor
from torch.testing import assert_close

from vqkit import distributed
from vqkit.means import Mean
from vqkit.quantizers import (
    Codebook,
    EMAConfig,
    FSQConfig,
    MultiScaleConfig,
    NormalizedConfig,
    NotFinite,
    ProjectedConfig,
    Quantized,
    Quantizer,
    QuantizerConfig,
    RegularizedConfig,
    ResidualConfig,
    SimVQConfig,
    VQConfig,
)

DIM, SIZE = 4, 16
VQ, EMA = VQConfig(codebook_size=SIZE), EMAConfig(codebook_size=SIZE)


@dataclass(frozen=True)
class Case:
    """A quantizer and the grid of its vectors."""

    config: QuantizerConfig
    grid: tuple[int, ...] = (4, 6)


SCALES = ((1, 1), (2, 3), (3, 4), (4, 6))
APART = MultiScaleConfig(quantizer=EMA, scales=SCALES, shared=False)
GRID_CASES = {
    "scales of vq": Case(MultiScaleConfig(quantizer=VQ, scales=SCALES)),
    "scales of ema": Case(MultiScaleConfig(quantizer=EMA, scales=SCALES)),
    "scales of ema apart": Case(APART),
    "scales of rotated vq apart": Case(
        MultiScaleConfig(
            quantizer=VQConfig(codebook_size=SIZE, gradient="rotation"), scales=SCALES, shared=False
        )
    ),
    "scales of directional vq": Case(
        MultiScaleConfig(
            quantizer=VQConfig(codebook_size=SIZE, gradient="directional"), scales=SCALES
        )
    ),
    "scales of simvq": Case(
        MultiScaleConfig(quantizer=SimVQConfig(codebook_size=SIZE), scales=SCALES)
    ),
    "scales of fsq": Case(
        MultiScaleConfig(quantizer=FSQConfig(levels=(5, 5, 5, 5)), scales=SCALES)
    ),
    "scales of residual": Case(
        MultiScaleConfig(quantizer=ResidualConfig(quantizer=EMA, stages=2), scales=SCALES)
    ),
    "scales in time": Case(MultiScaleConfig(quantizer=EMA, scales=((1,), (3,), (8,))), (8,)),
    "scales in space": Case(
        MultiScaleConfig(quantizer=EMA, scales=((1, 1, 1), (2, 2, 1), (3, 2, 2))), (3, 2, 2)
    ),
    "normalized scales": Case(NormalizedConfig(quantizer=APART)),
    "projected scales": Case(ProjectedConfig(quantizer=APART, dim=DIM)),
    "regularized scales": Case(
        RegularizedConfig(
            quantizer=MultiScaleConfig(quantizer=VQ, scales=SCALES, shared=False),
            orthogonality=5,
            diversity=0.5,
            certainty=0.5,
        )
    ),
}
# Where parts of a batch meet the codebook in another order than the whole, revival draws others.
SHARED = {name for name in GRID_CASES if name.startswith("scales") and "apart" not in name}
WITH_NETWORKS = {name for name in GRID_CASES if "projected" in name}
WITHOUT_TABLE = {name for name in GRID_CASES if "fsq" in name}


def only(names: Iterable[str]) -> pytest.MarkDecorator:
    """The members of which a test tells; of the others it would be no property."""
    return pytest.mark.parametrize("name", sorted(names), indirect=True)


@pytest.fixture(params=GRID_CASES)
def name(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return request.param


@pytest.fixture
def grid(name: str) -> tuple[int, ...]:
    return GRID_CASES[name].grid


@pytest.fixture
def fresh(name: str) -> Quantizer:
    return GRID_CASES[name].config.build(DIM)


@pytest.fixture
def quantizer(fresh: Quantizer, grid: tuple[int, ...]) -> Quantizer:
    fresh.initialize(torch.randn(60, *grid, DIM), seed=0)
    return fresh


def padded_items(
    num: int, grid: tuple[int, ...], filler: float = torch.nan
) -> tuple[Tensor, Tensor]:
    """Items and where they are real: the first whole, the second with a hole, the third empty."""
    mask = torch.rand(num, *grid) > 0.6
    mask[0], mask[2] = True, False
    z_e = torch.randn(num, *grid, DIM)
    return z_e.masked_fill(~mask.unsqueeze(-1), filler), mask


def train_step(
    quantizer: Quantizer, z_e: Tensor, mask: Tensor | None = None
) -> tuple[Quantized, Tensor]:
    """The output and the gradient of z_e, where the decoder asks for a larger z_q."""
    z_e = z_e.clone().requires_grad_()
    out = quantizer(z_e, mask)
    (out.loss - (out.z_q * torch.arange(DIM)).sum()).backward()
    assert z_e.grad is not None
    return out, z_e.grad


def totals_and_counts(terms: dict[str, Mean]) -> dict[str, tuple[Tensor, Tensor]]:
    return {name: (mean.total, mean.count) for name, mean in terms.items()}


def state(quantizer: Quantizer) -> dict[str, Tensor]:
    return dict(copy.deepcopy(quantizer.state_dict()))


def test_it_says_that_it_reads_the_grid(quantizer: Quantizer):
    assert quantizer.reads_grid


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
def test_z_q_is_exactly_what_the_indices_decode_to(
    quantizer: Quantizer, grid: tuple[int, ...], dtype: torch.dtype, training: bool
):
    as_used = copy.deepcopy(quantizer)  # training may move the entries once they were used
    z_e, mask = padded_items(5, grid)
    out = quantizer.train(training)(z_e.to(dtype).requires_grad_(), mask)
    assert out.z_q.dtype == torch.float32
    assert out.z_q.shape == (5, *grid, DIM)
    assert torch.equal(as_used.decode(out.indices), out.z_q)


def test_indices_have_an_axis_of_codebooks_and_the_grid_of_the_code_mask(
    quantizer: Quantizer, grid: tuple[int, ...]
):
    z_e, mask = padded_items(5, grid)
    out, real = quantizer(z_e, mask), quantizer.code_mask(mask)
    assert real is not None
    assert out.indices.shape == (*real.shape, len(quantizer.codebook_sizes))
    assert out.indices.dtype == torch.int64
    assert (out.indices >= 0).all()
    assert (out.indices < torch.tensor(quantizer.codebook_sizes)).all()
    assert real[0].all()
    assert not real[2].any()
    assert quantizer.code_mask(None) is None


def test_a_fresh_quantizer_starts_from_its_first_batch(fresh: Quantizer, grid: tuple[int, ...]):
    fresh.commit_in_forward = False
    out = fresh(torch.randn(60, *grid, DIM))
    assert all(book.is_initialized for book in fresh.codebooks())
    assert torch.equal(fresh.decode(out.indices), out.z_q)


@only(GRID_CASES.keys() - WITH_NETWORKS)
def test_the_start_depends_on_nothing_but_items_and_seed(name: str, grid: tuple[int, ...]):
    layers = [GRID_CASES[name].config.build(DIM) for _ in range(3)]
    z_e, mask = padded_items(40, grid)
    other = z_e.masked_fill(~mask.unsqueeze(-1), 100.0)
    for layer, given, seed in zip(layers, (z_e, other, z_e), (7, 7, 8), strict=True):
        layer.initialize(given, mask, seed=seed)
    assert_close(state(layers[0]), state(layers[1]), rtol=0, atol=0)
    for book, unlike in zip(layers[0].codebooks(), layers[2].codebooks(), strict=True):
        assert book.is_initialized
        assert book.seed != unlike.seed
    seeds = {book: int(book.seed) for book in layers[0].codebooks()}
    assert len(set(seeds.values())) == len(seeds)


@only(GRID_CASES.keys() - WITH_NETWORKS)
def test_items_without_anything_real_have_no_part_in_the_start(name: str, grid: tuple[int, ...]):
    one, other = (GRID_CASES[name].config.build(DIM) for _ in range(2))
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    z_e, mask = padded_items(40, grid)
    mask[20:] = False
    some = mask.flatten(1).any(1)
    one.initialize(z_e, mask, seed=7)
    other.initialize(z_e[some], mask[some], seed=7)
    assert_close(state(one), state(other), rtol=0, atol=0)


def test_encode_equals_forward_in_evaluation(quantizer: Quantizer, grid: tuple[int, ...]):
    z_e, mask = padded_items(5, grid)
    assert torch.equal(quantizer.eval()(z_e, mask).indices, quantizer.encode(z_e, mask))


def test_encode_is_the_same_each_time_and_in_training(quantizer: Quantizer, grid: tuple[int, ...]):
    z_e, mask = padded_items(5, grid)
    first = quantizer.train().encode(z_e, mask)
    assert torch.equal(quantizer.encode(z_e, mask), first)
    assert torch.equal(quantizer.eval().encode(z_e, mask), first)


def test_the_codes_of_an_item_do_not_depend_on_the_others(
    quantizer: Quantizer, grid: tuple[int, ...]
):
    z_e, mask = padded_items(9, grid)
    together = quantizer.encode(z_e, mask)
    for i in range(9):
        assert torch.equal(quantizer.encode(z_e[i : i + 1], mask[i : i + 1]), together[i : i + 1])


def test_evaluation_changes_no_state(quantizer: Quantizer, grid: tuple[int, ...]):
    before = state(quantizer)
    quantizer.eval()(torch.randn(5, *grid, DIM))
    quantizer.encode(torch.randn(5, *grid, DIM))
    quantizer.commit()
    assert_close(state(quantizer), before, rtol=0, atol=0)


def test_evaluation_does_not_start_a_fresh_codebook(fresh: Quantizer, grid: tuple[int, ...]):
    before = state(fresh)
    fresh.eval()(torch.randn(5, *grid, DIM))
    assert_close(state(fresh), before, rtol=0, atol=0)


def test_what_padding_holds_has_no_effect(fresh: Quantizer, grid: tuple[int, ...]):
    """Start, value, losses, gradients and statistics, over steps that revive entries."""
    twin = copy.deepcopy(fresh)
    for number in range(15):
        z_e, mask = padded_items(8, grid)
        z_e = z_e + 3 * number
        other = z_e.masked_fill(~mask.unsqueeze(-1), 100.0)
        (one, gradient), (same, same_gradient) = (
            train_step(fresh, z_e, mask),
            train_step(twin, other, mask),
        )
        assert torch.equal(one.indices, same.indices)
        assert torch.equal(one.z_q, same.z_q)
        assert_close(totals_and_counts(one.terms), totals_and_counts(same.terms), rtol=0, atol=0)
        assert torch.equal(one.loss, same.loss)
        assert torch.equal(gradient, same_gradient)
        assert_close(state(fresh), state(twin), rtol=0, atol=0)


def test_masked_positions_get_index_zero_and_no_gradient(
    quantizer: Quantizer, grid: tuple[int, ...]
):
    z_e, mask = padded_items(5, grid)
    out, gradient = train_step(quantizer, z_e, mask)
    real = quantizer.code_mask(mask)
    assert real is not None
    assert (out.indices[~real] == 0).all()
    assert (gradient[~mask] == 0).all()


def test_a_mask_that_is_true_everywhere_is_none(quantizer: Quantizer, grid: tuple[int, ...]):
    twin, z_e = copy.deepcopy(quantizer), torch.randn(5, *grid, DIM)
    mask = torch.ones(5, *grid, dtype=torch.bool)
    (out, gradient), (same, same_gradient) = train_step(quantizer, z_e, mask), train_step(twin, z_e)
    assert torch.equal(out.indices, same.indices)
    assert torch.equal(out.loss, same.loss)
    assert out.objective.count == same.objective.count
    assert torch.equal(gradient, same_gradient)


@pytest.mark.parametrize("num", [0, 3], ids=["empty", "all masked"])
@pytest.mark.parametrize("started", [False, True])
def test_a_batch_without_real_vectors_costs_and_changes_nothing(
    fresh: Quantizer, grid: tuple[int, ...], num: int, started: bool
):
    if started:
        fresh(torch.randn(9, *grid, DIM))
    before = state(fresh)
    z_e, mask = torch.randn(num, *grid, DIM), torch.zeros(num, *grid, dtype=torch.bool)
    out, gradient = train_step(fresh, z_e, mask)
    assert out.loss == 0
    assert all(mean.count == 0 and mean.value == 0 for mean in out.terms.values())
    assert (gradient == 0).all()
    assert_close(state(fresh), before, rtol=0, atol=0)


def test_the_objective_counts_the_real_vectors(quantizer: Quantizer, grid: tuple[int, ...]):
    """So that the training loop knows its count before the forward."""
    z_e, mask = padded_items(5, grid)
    assert quantizer(z_e, mask).objective.count == mask.sum()
    assert quantizer(torch.randn(5, *grid, DIM)).objective.count == mask.numel()


@pytest.mark.parametrize("num", [1, 5])
def test_a_few_items_start_a_codebook(fresh: Quantizer, grid: tuple[int, ...], num: int):
    for batch in torch.randn(5, num, *grid, DIM):
        assert fresh(batch).z_q.isfinite().all()
    assert all(book.entries.isfinite().all() for book in fresh.codebooks())


def test_every_vector_gets_a_finite_gradient(quantizer: Quantizer, grid: tuple[int, ...]):
    z_e = torch.randn(5, *grid, DIM)
    z_e[0], z_e[1] = 0, 1e4 * z_e[1]
    _, gradient = train_step(quantizer, z_e)
    assert gradient.isfinite().all()
    assert (gradient[2:] != 0).any(-1).all()
    assert gradient.norm(dim=-1).amax() < 1e4


def test_the_objectives_of_a_split_batch_add_up_to_the_whole_batchs(
    quantizer: Quantizer, grid: tuple[int, ...]
):
    quantizer.commit_in_forward = False
    z_e, mask = padded_items(9, grid)
    whole = copy.deepcopy(quantizer)(z_e, mask)
    parts = [quantizer(z_e[:4], mask[:4]), quantizer(z_e[4:], mask[4:])]
    assert_close((parts[0].objective + parts[1].objective).value, whole.loss)
    for name, mean in whole.terms.items():
        assert_close((parts[0].terms[name] + parts[1].terms[name]).value, mean.value)


@only(GRID_CASES.keys() - SHARED)
def test_micro_batches_move_nothing_before_the_commit_and_then_as_one(
    quantizer: Quantizer, grid: tuple[int, ...], name: str
):
    whole = copy.deepcopy(quantizer)
    quantizer.commit_in_forward = False
    for batch in 3 * torch.randn(20, 20, *grid, DIM):
        before = state(quantizer)
        quantizer(batch[:6])
        quantizer(batch[6:])
        assert_close(state(quantizer), before, rtol=0, atol=0)
        quantizer.commit()
        whole(batch)
        assert_close(state(quantizer), state(whole), rtol=1e-5, atol=1e-5)


@only(SHARED)
def test_micro_batches_move_one_codebook_as_one_batch_while_nothing_is_revived(
    quantizer: Quantizer, grid: tuple[int, ...], name: str
):
    for part in quantizer.modules():
        if hasattr(part, "revive") and isinstance(part.revive, bool):
            part.revive = False
    whole = copy.deepcopy(quantizer)
    quantizer.commit_in_forward = False
    for batch in torch.randn(5, 20, *grid, DIM):
        quantizer(batch[:6])
        quantizer(batch[6:])
        quantizer.commit()
        whole(batch)
        assert_close(state(quantizer), state(whole), rtol=1e-5, atol=1e-5)


def test_a_reloaded_quantizer_continues_bit_for_bit(
    fresh: Quantizer, name: str, grid: tuple[int, ...]
):
    batches = torch.randn(12, 12, *grid, DIM)
    batches[..., 0] += 3 * torch.arange(12).view(-1, *[1] * (len(grid) + 1))  # revives entries
    for batch in batches[:4]:
        fresh(batch)
    reloaded = GRID_CASES[name].config.build(DIM)
    reloaded.load_state_dict(copy.deepcopy(fresh.state_dict()))
    for batch in batches[4:]:
        assert torch.equal(fresh(batch).z_q, reloaded(batch).z_q)
        assert_close(state(fresh), state(reloaded), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@only(GRID_CASES.keys() - WITH_NETWORKS)
def test_a_model_of_half_precision_quantizes_as_before(
    quantizer: Quantizer, name: str, grid: tuple[int, ...], dtype: torch.dtype
):
    z_e = torch.randn(9, *grid, DIM).to(dtype)
    twin = copy.deepcopy(quantizer).to(dtype)
    (before, gradient), (after, same) = train_step(quantizer, z_e), train_step(twin, z_e)
    assert gradient.dtype == same.dtype == dtype
    assert torch.equal(before.indices, after.indices)
    assert torch.equal(before.z_q, after.z_q)
    assert torch.equal(gradient, same)


def test_a_model_of_double_precision_is_double_throughout(
    quantizer: Quantizer, grid: tuple[int, ...]
):
    quantizer.double()
    out, gradient = train_step(quantizer, torch.randn(9, *grid, DIM, dtype=torch.float64))
    assert out.z_q.dtype == out.loss.dtype == gradient.dtype == torch.float64
    assert quantizer.decode(out.indices).dtype == torch.float64


def test_how_vectors_lie_in_memory_does_not_matter(quantizer: Quantizer, grid: tuple[int, ...]):
    z_e = torch.randn(5, DIM, *grid).movedim(1, -1)
    assert torch.equal(quantizer.encode(z_e), quantizer.encode(z_e.contiguous()))


@pytest.mark.slow
def test_one_forward_pass_is_one_graph_when_compiled(
    quantizer: Quantizer, grid: tuple[int, ...], name: str
):
    torch._dynamo.reset()
    compiled = torch.compile(copy.deepcopy(quantizer), backend="aot_eager", fullgraph=True)
    for number in range(2):
        z_e, mask = padded_items(6, grid, filler=0.0)
        real = mask if number else None
        out, gradient = train_step(quantizer, z_e, real)
        same, same_gradient = train_step(compiled, z_e, real)
        assert torch.equal(out.indices, same.indices)
        assert torch.equal(out.z_q, same.z_q)
        assert_close(gradient, same_gradient)


def test_wrong_masks_and_indices_are_refused(quantizer: Quantizer, grid: tuple[int, ...]):
    z_e, mask = padded_items(5, grid)
    good = quantizer.encode(z_e, mask)
    with pytest.raises(ValueError, match="mask has shape"):
        quantizer(z_e, mask[0])
    with pytest.raises(ValueError, match=r"mask is torch\.int64; give booleans"):
        quantizer(z_e, mask.long())
    with pytest.raises(ValueError, match="indices have shape"):
        quantizer.decode(torch.zeros(*good.shape[:-1], 7, dtype=torch.int64))
    with pytest.raises(TypeError, match="give integers"):
        quantizer.decode(good.float())
    for wrong in (-1, quantizer.codebook_sizes[0]):
        bad = good.clone()
        bad[(3, *[0] * (bad.dim() - 1))] = wrong
        with pytest.raises(ValueError, match="out of range"):
            quantizer.decode(bad)


def test_vectors_that_are_not_finite_are_refused_with_their_number(
    quantizer: Quantizer, grid: tuple[int, ...]
):
    z_e, mask = padded_items(5, grid)
    z_e[0].view(-1, DIM)[:3, 1] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    before = state(quantizer)
    for call in (quantizer, quantizer.encode, quantizer.eval()):
        with pytest.raises(NotFinite, match=r"3 of \d+ vectors that are not finite"):
            call(z_e, mask)
    assert_close(state(quantizer), before, rtol=0, atol=0)


def test_vectors_of_another_length_are_refused_before_they_start_a_codebook(
    fresh: Quantizer, grid: tuple[int, ...]
):
    before = state(fresh)
    for call in (fresh, fresh.encode, fresh.eval()):
        with pytest.raises(ValueError, match=f"z_e has shape .* {DIM}"):
            call(torch.randn(3, *grid, DIM + 1))
    assert_close(state(fresh), before, rtol=0, atol=0)


def test_a_training_step_does_not_look_at_its_own_indices(
    quantizer: Quantizer, grid: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    """A look at what a GPU holds waits for it."""

    def fail(self: Quantizer, indices: Tensor) -> None:
        raise AssertionError

    monkeypatch.setattr(Quantizer, "check_indices", fail)
    train_step(quantizer, torch.randn(5, *grid, DIM))


Batch = tuple[Tensor, Tensor]


def steps(grid: tuple[int, ...]) -> list[list[Batch]]:
    """Items and masks of each rank, in each step."""
    generator = torch.Generator().manual_seed(0)

    def part(num: int, *, real: float = 0.7, shift: float = 0.0) -> Batch:
        z_e = torch.randn(num, *grid, DIM, dtype=torch.float64, generator=generator)
        z_e[..., 0] += shift
        return z_e, torch.rand(num, *grid, generator=generator) < real

    odd = [[part(5), part(4, real=0.0)], [part(5), part(0)], [part(3, real=0.0), part(2, real=0.0)]]
    drift = [[part(6, shift=by), part(4, shift=by)] for by in (4, 4, -4, -4)]
    return [[part(7), part(4)], *odd, *drift]


def trained(name: str, *, engine: bool) -> dict[str, Tensor]:
    """The state after some steps and all losses, on one process or on two."""
    torch.manual_seed(distributed.rank())  # ranks begin with other entries and other seeds
    layer, batches = GRID_CASES[name].config.build(DIM).double(), steps(GRID_CASES[name].grid)
    if engine:
        layer.initialize(*joined(batches[0]), seed=3)
    losses = []
    for batch in batches:
        pair = batch[distributed.rank()] if distributed.is_distributed() else joined(batch)
        objective = layer(*pair).objective
        both = torch.stack([objective.total.detach(), objective.count.double()])
        losses.append(distributed.all_reduce(both))
    return layer.state_dict() | {"losses": torch.stack(losses)}


def joined(batch: list[Batch]) -> Batch:
    z_e, masks = zip(*batch, strict=True)
    return torch.cat(z_e), torch.cat(masks)


# Without what begins from random numbers of each rank, and what adds nothing to the others.
PAIRED = GRID_CASES.keys() - WITH_NETWORKS - {"scales of simvq", "scales of fsq", "scales in space"}


def everything() -> dict[str, dict[str, Tensor]]:
    return {
        f"{name}, {engine}": trained(name, engine=engine)
        for name in sorted(PAIRED)
        for engine in (True, False)
    }


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("pair")
    return run_pair(everything, folder)


@pytest.mark.parametrize("engine", [True, False], ids=["engine", "first batch"])
@only(PAIRED)
def test_two_processes_equal_one_on_the_joined_batch(pair: list, name: str, engine: bool):
    """Start, revival, unequal masks and ranks without items included."""
    first, second = (one[f"{name}, {engine}"] for one in pair)
    assert_close(first, second, rtol=0, atol=0)
    assert_close(first, trained(name, engine=engine), rtol=0, atol=1e-9)


def test_a_quantizer_that_reads_the_grid_is_no_part_of_another(quantizer: Quantizer):
    from vqkit.quantizers import MultiScaleResidual, Product, Residual

    for hold in (
        lambda: Product([quantizer, quantizer]),
        lambda: Residual([quantizer]),
        lambda: MultiScaleResidual([quantizer], [(4, 6)]),
    ):
        with pytest.raises(ValueError, match="reads the grid"):
            hold()


@only(GRID_CASES.keys() - WITHOUT_TABLE)
def test_its_codebooks_are_each_of_a_size_that_it_names(quantizer: Quantizer, name: str):
    books: tuple[Codebook, ...] = quantizer.codebooks()
    assert len(set(books)) == len(books) > 0
    assert {book.size for book in books} == set(quantizer.codebook_sizes)
