"""What must hold for every quantizer. A new one is one more line above CASES."""

import copy
from collections.abc import Iterable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.means import Mean
from vqkit.quantizers import (
    AdditiveConfig,
    Annealing,
    Balanced,
    BSQConfig,
    Codebook,
    EMAConfig,
    FSQConfig,
    GumbelConfig,
    Hiding,
    IBQConfig,
    LatentConfig,
    LFQConfig,
    NormalizedConfig,
    NotFinite,
    ProductConfig,
    ProjectedConfig,
    Quantized,
    Quantizer,
    QuantizerConfig,
    RandomProjectionConfig,
    RegularizedConfig,
    ResidualConfig,
    RotatedConfig,
    Sampled,
    SelectiveConfig,
    SimVQConfig,
    SQConfig,
    VQConfig,
)

DIM, SIZE = 4, 32
VQ, EMA = VQConfig(codebook_size=SIZE), EMAConfig(codebook_size=SIZE)
LEARNED = {
    "vq": VQ,
    "ema": EMA,
    "simvq": SimVQConfig(codebook_size=SIZE),
    "cosine vq": VQConfig(codebook_size=SIZE, metric="cosine"),
    "cosine ema": EMAConfig(codebook_size=SIZE, metric="cosine"),
    "cosine simvq": SimVQConfig(codebook_size=SIZE, metric="cosine"),
    "rotated vq": VQConfig(codebook_size=SIZE, gradient="rotation"),
    "rotated ema": EMAConfig(codebook_size=SIZE, gradient="rotation"),
    "directional vq": VQConfig(codebook_size=SIZE, gradient="directional"),
    "directional simvq": SimVQConfig(codebook_size=SIZE, gradient="directional"),
    "sampled vq": VQConfig(codebook_size=SIZE, assignment=Sampled(temperature=0.5)),
    "sampled ema": EMAConfig(codebook_size=SIZE, assignment=Sampled(temperature=0.5)),
    "gumbel": GumbelConfig(codebook_size=SIZE, annealing=Annealing(steps=50)),
    "soft gumbel": GumbelConfig(codebook_size=SIZE, annealing=Annealing(soft_steps=1000)),
    "sq": SQConfig(codebook_size=SIZE),
    "ibq": IBQConfig(codebook_size=SIZE),
    "cosine ibq": IBQConfig(codebook_size=SIZE, metric="cosine"),
    "balanced vq": VQConfig(codebook_size=SIZE, assignment=Balanced()),
    "balanced ema": EMAConfig(codebook_size=SIZE, assignment=Balanced()),
    "vq from data": VQConfig(codebook_size=SIZE, start="data"),
    "cosine ema from data": EMAConfig(codebook_size=SIZE, start="data", metric="cosine"),
    "ema from normal": EMAConfig(codebook_size=SIZE, start="normal"),
    "simvq from normal": SimVQConfig(codebook_size=SIZE, start="normal"),
    "progressive ema": EMAConfig(codebook_size=SIZE, start="progressive"),
}
WITHOUT_TABLE = {
    "fsq": FSQConfig(levels=(5, 4, 3, 2)),
    "lfq": LFQConfig(),
    "bsq": BSQConfig(),
    "latent": LatentConfig(levels=(5, 4, 3, 2)),
    "random projection": RandomProjectionConfig(codebook_size=SIZE, entry_dim=3),
}
PAIRS = ProductConfig(quantizer=EMA, parts=2)
ENTROPIES = {"diversity": 0.5, "certainty": 0.5, "temperature": 2.0}
COMPOSED = {
    **{
        f"{how} {name}": NormalizedConfig(quantizer=leaf, how=how)
        for name, leaf in {"vq": VQ, "ema": EMA, "fsq": WITHOUT_TABLE["fsq"]}.items()
        for how in ("layernorm", "l2")
    },
    "projected vq": ProjectedConfig(quantizer=VQ, dim=3),
    "projected ema": ProjectedConfig(quantizer=EMA, dim=3),
    "projected fsq": ProjectedConfig(quantizer=FSQConfig(levels=(5, 5, 5)), dim=3),
    "projected lfq": ProjectedConfig(quantizer=LFQConfig(), dim=9),
    "product of vq": ProductConfig(quantizer=VQ, parts=2),
    "product of ema": PAIRS,
    "product of lfq": ProductConfig(quantizer=LFQConfig(), parts=2),
    "heads of ema": ProductConfig(quantizer=EMA, parts=2, shared=True),
    "residual vq": ResidualConfig(quantizer=VQ, stages=3),
    "residual ema": ResidualConfig(quantizer=EMA, stages=3),
    "residual simvq": ResidualConfig(quantizer=SimVQConfig(codebook_size=SIZE), stages=2),
    "residual lfq": ResidualConfig(quantizer=LFQConfig(), stages=3),
    "residual product of fsq": ResidualConfig(
        quantizer=ProductConfig(quantizer=FSQConfig(levels=(5, 4)), parts=2), stages=2
    ),
    "residual rotated": ResidualConfig(quantizer=LEARNED["rotated ema"], stages=2),
    "residual directional": ResidualConfig(quantizer=LEARNED["directional vq"], stages=2),
    "residual shared": ResidualConfig(quantizer=EMA, stages=3, shared=True),
    "residual beams": ResidualConfig(quantizer=EMA, stages=3, beams=3),
    "residual gumbel": ResidualConfig(quantizer=GumbelConfig(codebook_size=SIZE), stages=2),
    "residual ibq": ResidualConfig(quantizer=IBQConfig(codebook_size=SIZE), stages=2),
    "residual fsq": ResidualConfig(quantizer=FSQConfig(levels=(5, 4, 3, 3)), stages=2),
    "residual projected": ResidualConfig(quantizer=ProjectedConfig(quantizer=EMA, dim=3), stages=2),
    "grouped residual": ProductConfig(quantizer=ResidualConfig(quantizer=EMA, stages=2), parts=2),
    "residual product": ResidualConfig(quantizer=PAIRS, stages=2),
    "selective vq": SelectiveConfig(quantizer=VQ),
    "selective ema": SelectiveConfig(quantizer=EMA, keep=0.3),
    "selective fsq": SelectiveConfig(quantizer=WITHOUT_TABLE["fsq"]),
    "selective hiding": SelectiveConfig(quantizer=EMA, keep=1, hiding=Hiding(share=0.5)),
    "selective residual": SelectiveConfig(quantizer=ResidualConfig(quantizer=EMA, stages=2)),
    "regularized vq": RegularizedConfig(quantizer=VQ, orthogonality=5, **ENTROPIES),
    "regularized ema": RegularizedConfig(quantizer=EMA, **ENTROPIES),
    "regularized simvq": RegularizedConfig(quantizer=LEARNED["cosine simvq"], orthogonality=5),
    "regularized projected": RegularizedConfig(
        quantizer=ProjectedConfig(quantizer=VQ, dim=3), orthogonality=5, **ENTROPIES
    ),
    "regularized heads": RegularizedConfig(
        quantizer=ProductConfig(quantizer=EMA, parts=2, shared=True), **ENTROPIES
    ),
    "regularized residual": RegularizedConfig(
        quantizer=ResidualConfig(quantizer=VQ, stages=2), orthogonality=5, **ENTROPIES
    ),
    "regularized beams": RegularizedConfig(
        quantizer=ResidualConfig(quantizer=EMA, stages=2, beams=3), **ENTROPIES
    ),
    "regularized selective": RegularizedConfig(
        quantizer=SelectiveConfig(quantizer=VQ), **ENTROPIES
    ),
    "residual regularized": ResidualConfig(
        quantizer=RegularizedConfig(quantizer=VQ, orthogonality=5, **ENTROPIES), stages=2
    ),
    "regularized fsq": RegularizedConfig(quantizer=WITHOUT_TABLE["fsq"]),
    "additive": AdditiveConfig(quantizer=EMA, stages=3, beams=3, rounds=4),
    "additive vq": AdditiveConfig(quantizer=VQ, stages=2, beams=1, rounds=1),
    "turned product": RotatedConfig(quantizer=PAIRS, iterations=4),
    "turned fsq": RotatedConfig(quantizer=WITHOUT_TABLE["fsq"], iterations=4),
    "turned vq": RotatedConfig(quantizer=VQ, iterations=4),
    "turned residual": RotatedConfig(
        quantizer=ResidualConfig(quantizer=PAIRS, stages=2), iterations=4
    ),
    "selective turned": SelectiveConfig(quantizer=RotatedConfig(quantizer=PAIRS, iterations=4)),
    "residual from data": ResidualConfig(
        quantizer=EMAConfig(codebook_size=SIZE, start="data"), stages=2
    ),
}
CASES = LEARNED | WITHOUT_TABLE | COMPOSED
# Rules whose choice in training depends on the other vectors of the pass, or on their number.
BY_COMPANY = {
    n for n in CASES if {*n.split()} & {"sampled", "balanced", "gumbel", "sq", "selective"}
}
BALANCED = {n for n in CASES if "balanced" in n}
DRAWN = BY_COMPANY - BALANCED
SHARED = {n for n in CASES if "shared" in n}
AT_RANDOM = {n for n in CASES if "normal" in n.split()}  # not every entry is used at first
WITH_CODEBOOKS = {name for name in CASES if CASES[name].build(DIM).codebooks()}
MOVING = WITH_CODEBOOKS | {name for name in CASES if "lfq" in name or "bsq" in name}
# Their weights are rounded, as those of any network.
WITH_NETWORKS = {name for name in CASES if {*name.split()} & {"projected", "turned"}}


def only(names: Iterable[str]) -> pytest.MarkDecorator:
    """The members of which a test tells; of the others it would be no property."""
    return pytest.mark.parametrize("name", sorted(names), indirect=True)


@pytest.fixture(params=CASES)
def name(request: pytest.FixtureRequest) -> str:
    torch.manual_seed(0)
    return request.param


@pytest.fixture
def config(name: str) -> QuantizerConfig:
    return CASES[name]


@pytest.fixture
def fresh(config: QuantizerConfig) -> Quantizer:
    return config.build(DIM)


@pytest.fixture
def quantizer(fresh: Quantizer) -> Quantizer:
    fresh.initialize(torch.randn(500, DIM), seed=0)
    return fresh


def padded_batch() -> tuple[Tensor, Tensor]:
    """Vectors (6, 5, DIM) and a mask (6, 5); what is masked is not even a number."""
    mask = torch.rand(6, 5) > 0.4
    return torch.randn(6, 5, DIM).masked_fill(~mask.unsqueeze(-1), torch.nan), mask


def drifting_batches(num: int) -> Tensor:
    """Batches that leave entries without vectors. (num, 100, DIM)"""
    batches = torch.randn(num, 100, DIM)
    batches[..., 0] += 3 * torch.arange(num).unsqueeze(1)
    return batches


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


def gradients(quantizer: Quantizer) -> dict[str, Tensor | None]:
    return {name: parameter.grad for name, parameter in quantizer.named_parameters()}


@pytest.mark.parametrize("batch", [(), (7,), (2, 3, 5)])
def test_the_last_axis_is_quantized_and_the_rest_is_batch(quantizer: Quantizer, batch: tuple):
    out = quantizer(torch.randn(*batch, DIM))
    assert out.z_q.shape == (*batch, DIM)
    assert out.indices.shape == (*batch, len(quantizer.codebook_sizes))
    assert out.indices.dtype == torch.int64
    assert out.loss.shape == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("training", [True, False])
@only(CASES.keys() - {"soft gumbel"})
def test_z_q_is_exactly_what_the_indices_decode_to(
    quantizer: Quantizer, name: str, dtype: torch.dtype, training: bool
):
    as_used = copy.deepcopy(quantizer)  # training may move the entries once they were used
    z_e, mask = padded_batch()
    out = quantizer.train(training)(z_e.to(dtype).requires_grad_(), mask)
    assert out.z_q.dtype == torch.float32
    assert torch.equal(as_used.decode(out.indices), out.z_q)


def test_a_fresh_quantizer_starts_from_its_first_batch_and_decodes_it_exactly(
    fresh: Quantizer, name: str
):
    fresh.commit_in_forward = False
    out = fresh(torch.randn(200, DIM))
    assert "soft" in name or torch.equal(fresh.decode(out.indices), out.z_q)
    used: dict[Codebook, set[int]] = {}
    books = fresh.codebooks()
    for book, indices in zip(books, out.indices.unbind(-1)[-len(books) :], strict=False):
        used.setdefault(book, set()).update(indices.flatten().tolist())
    share = 0.5 if "selective" in name else 0.9  # of the vectors it codes only some
    assert all(len(indices) > share * book.size for book, indices in used.items())


def test_indices_stay_inside_their_codebook(quantizer: Quantizer):
    indices = quantizer.encode(100 * torch.randn(1000, DIM))
    assert (indices >= 0).all()
    assert (indices < torch.tensor(quantizer.codebook_sizes)).all()


def test_encode_equals_forward_in_evaluation(quantizer: Quantizer):
    z_e, mask = padded_batch()
    assert torch.equal(quantizer.eval()(z_e, mask).indices, quantizer.encode(z_e, mask))


def test_encode_is_the_same_each_time_and_in_training(quantizer: Quantizer):
    z_e, mask = padded_batch()
    first = quantizer.train().encode(z_e, mask)
    assert torch.equal(quantizer.encode(z_e, mask), first)
    assert torch.equal(quantizer.eval().encode(z_e, mask), first)


def test_evaluation_changes_no_state(quantizer: Quantizer):
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.eval()(torch.randn(100, DIM))
    quantizer.encode(torch.randn(100, DIM))
    quantizer.commit()
    assert_close(quantizer.state_dict(), before, rtol=0, atol=0)


def test_evaluation_does_not_start_a_fresh_codebook(fresh: Quantizer):
    before = copy.deepcopy(fresh.state_dict())
    fresh.eval()(torch.randn(100, DIM))
    assert_close(fresh.state_dict(), before, rtol=0, atol=0)


def test_every_vector_gets_a_finite_gradient(quantizer: Quantizer, name: str):
    z_e = torch.cat([torch.zeros(1, DIM), torch.randn(100, DIM), 1e4 * torch.randn(1, DIM)])
    out, gradient = train_step(quantizer, z_e)
    assert gradient.isfinite().all()
    coded = out.indices[:-1, 0] > 0 if "selective" in name else slice(-1)
    assert (gradient[:-1][coded] != 0).any(-1).all()  # what squashes saturates far out
    assert gradient.norm(dim=-1).amax() < 1e4


def test_a_masked_batch_equals_its_packed_batch(fresh: Quantizer, name: str):
    """Start, value, losses, gradients and statistics, over steps that revive entries."""
    dtype = torch.float32
    if {*name.split()} & {"balanced", "gumbel", "sq", "ibq"}:  # a last bit may decide
        fresh, dtype = fresh.double(), torch.float64
    twin = copy.deepcopy(fresh)
    for _ in range(20):
        z_e, mask = padded_batch()
        z_e = z_e.to(dtype)
        masked, masked_gradient = train_step(fresh, z_e, mask)
        packed, packed_gradient = train_step(twin, z_e[mask])
        assert torch.equal(masked.indices[mask], packed.indices)
        assert_close(masked.z_q[mask], packed.z_q)
        assert_close(masked.loss, packed.loss)
        assert_close(totals_and_counts(masked.terms), totals_and_counts(packed.terms))
        assert_close(masked_gradient[mask], packed_gradient)
        assert_close(gradients(fresh), gradients(twin))
        assert_close(fresh.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-6)


def test_masked_positions_get_index_zero_and_no_gradient(quantizer: Quantizer):
    z_e, mask = padded_batch()
    out, gradient = train_step(quantizer, z_e, mask)
    assert (out.indices[~mask] == 0).all()
    assert (gradient[~mask] == 0).all()


@pytest.mark.parametrize("shape", [(0, 5), (3, 5)], ids=["empty", "all masked"])
@pytest.mark.parametrize("started", [False, True])
def test_a_batch_without_real_vectors_costs_and_changes_nothing(
    fresh: Quantizer, shape: tuple, started: bool
):
    quantizer = fresh
    if started:
        quantizer(torch.randn(100, DIM))
    before = copy.deepcopy(quantizer.state_dict())
    out, gradient = train_step(quantizer, torch.randn(*shape, DIM), torch.zeros(shape).bool())
    assert out.loss == 0
    assert all(mean.count == 0 and mean.value == 0 for mean in out.terms.values())
    assert (gradient == 0).all()
    assert_close(quantizer.state_dict(), before, rtol=0, atol=0)


@only(MOVING)
def test_an_empty_batch_revives_nothing(quantizer: Quantizer, name: str):
    for book in quantizer.codebooks():
        book.unused_for.fill_(1000 * book.size)
    before = copy.deepcopy(quantizer.state_dict())
    quantizer(torch.zeros(0, 5, DIM))
    assert_close(dict(quantizer.state_dict()), dict(before), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("seed", "error", "match"),
    [
        (1.5, TypeError, r"seed is 1\.5; give an integer"),
        ("0", TypeError, "seed is '0'; give an integer"),
        (torch.tensor(1.5), TypeError, "; give an integer"),
        (2**63, ValueError, "give less than 2^63"),
        (-(2**63) - 1, ValueError, "give at least -9223372036854775808"),
    ],
)
def test_a_seed_that_is_no_integer_of_64_bits_is_refused_and_nothing_starts(
    fresh: Quantizer, seed: int, error: type[Exception], match: str
):
    before = copy.deepcopy(fresh.state_dict())
    with pytest.raises(error, match=match.replace("^", r"\^")):
        fresh.initialize(torch.randn(100, DIM), seed=seed)
    assert_close(dict(fresh.state_dict()), dict(before), rtol=0, atol=0)
    assert not any(book.is_initialized for book in fresh.codebooks())


def test_a_start_from_vectors_of_another_length_is_refused(fresh: Quantizer):
    before = copy.deepcopy(fresh.state_dict())
    for length in (1, DIM + 1):
        with pytest.raises(ValueError, match=f"the {DIM} coordinates"):
            fresh.initialize(torch.randn(100, length), seed=3)
    assert_close(dict(fresh.state_dict()), dict(before), rtol=0, atol=0)


@only(WITH_CODEBOOKS)
def test_a_state_of_other_sizes_in_a_network_of_ones_own_is_not_half_loaded(
    fresh: Quantizer, name: str
):
    other = copy.deepcopy(fresh)
    other(torch.randn(100, DIM))
    book = other.codebooks()[-1]  # of several only the last misfits
    book.extend(torch.randn(3, book.entries.shape[1]))
    network, before = torch.nn.Sequential(fresh), copy.deepcopy(fresh.state_dict())
    with pytest.raises(ValueError, match=r"^0\.\S+ has shape .* make the quantizer with the sizes"):
        network.load_state_dict(torch.nn.Sequential(other).state_dict())
    assert_close(dict(fresh.state_dict()), dict(before), rtol=0, atol=0)
    assert not any(book.is_initialized for book in fresh.codebooks())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool, torch.float32])
def test_indices_that_are_no_int64_are_refused(quantizer: Quantizer, dtype: torch.dtype):
    with pytest.raises(TypeError, match="give integers, int64"):
        quantizer.decode(torch.zeros(5, len(quantizer.codebook_sizes)).to(dtype))


def test_a_commit_with_nothing_pending_changes_nothing(quantizer: Quantizer):
    quantizer(torch.randn(100, DIM))
    before = copy.deepcopy(quantizer.state_dict())
    quantizer.commit()
    assert_close(quantizer.state_dict(), before, rtol=0, atol=0)


@only(CASES.keys() - DRAWN)
def test_losses_do_not_change_when_the_batch_is_repeated(quantizer: Quantizer, name: str):
    z_e = torch.randn(50, DIM)
    once, twice = copy.deepcopy(quantizer)(z_e), quantizer(z_e.repeat(2, 1))
    assert_close(once.loss, twice.loss)
    for name, mean in once.terms.items():
        assert_close(mean.value, twice.terms[name].value)


@only(CASES.keys() - BALANCED)
def test_the_objectives_of_a_split_batch_add_up_to_the_whole_batchs(
    quantizer: Quantizer, name: str
):
    quantizer.commit_in_forward = False
    z_e, mask = torch.randn(60, DIM), torch.rand(60) > 0.5
    whole = copy.deepcopy(quantizer)(z_e, mask)
    parts = [quantizer(z_e[:10], mask[:10]), quantizer(z_e[10:], mask[10:])]
    assert_close((parts[0].objective + parts[1].objective).value, whole.loss)
    for name, mean in whole.terms.items():
        assert_close((parts[0].terms[name] + parts[1].terms[name]).value, mean.value)


@only(CASES.keys() - BALANCED - SHARED)
def test_nothing_moves_before_the_commit_and_then_once(quantizer: Quantizer, name: str):
    """However many forward passes a step has, they move the entries as one batch does."""
    whole = copy.deepcopy(quantizer)
    quantizer.commit_in_forward = False
    for batch in 3 * torch.randn(30, 100, DIM):
        before = copy.deepcopy(quantizer.state_dict())
        quantizer(batch[:30])
        quantizer(batch[30:])
        assert_close(quantizer.state_dict(), before, rtol=0, atol=0)
        quantizer.commit()
        whole(batch)
        assert_close(quantizer.state_dict(), whole.state_dict(), rtol=1e-5, atol=1e-5)


def test_a_reloaded_quantizer_continues_bit_for_bit(config: QuantizerConfig, fresh: Quantizer):
    """The start, the averages, the usage, the seed and the step are all in the state."""
    for batch in drifting_batches(4):
        train_step(fresh, batch)
    reloaded = config.build(DIM)
    reloaded.load_state_dict(copy.deepcopy(fresh.state_dict()))
    for batch in drifting_batches(8):  # which revives entries
        assert torch.equal(train_step(fresh, batch)[0].z_q, train_step(reloaded, batch)[0].z_q)
        assert_close(fresh.state_dict(), reloaded.state_dict(), rtol=0, atol=0)


def test_what_was_pending_before_a_state_was_loaded_is_forgotten(quantizer: Quantizer):
    quantizer.commit_in_forward = False
    before = copy.deepcopy(quantizer.state_dict())
    train_step(quantizer, torch.randn(40, DIM))
    quantizer.load_state_dict(before)
    quantizer.commit()
    assert_close(quantizer.state_dict(), before, rtol=0, atol=0)


@only(MOVING)
def test_a_deep_copy_goes_its_own_way(quantizer: Quantizer, name: str):
    quantizer.commit_in_forward = False
    quantizer(torch.randn(40, DIM))
    before = copy.deepcopy(quantizer.state_dict())
    twin = copy.deepcopy(quantizer)
    twin.commit()
    twin(torch.randn(40, DIM))
    assert_close(quantizer.state_dict(), before, rtol=0, atol=0)
    quantizer.commit()
    with pytest.raises(AssertionError):
        assert_close(quantizer.state_dict(), before, rtol=0, atol=0)


def test_the_engine_starts_every_codebook_and_sets_its_seed(fresh: Quantizer):
    z_e = torch.randn(500, DIM)
    twin, other = copy.deepcopy(fresh), copy.deepcopy(fresh)
    fresh.initialize(z_e, seed=7)
    twin.initialize(z_e, seed=7)
    other.initialize(z_e, seed=8)
    assert_close(fresh.state_dict(), twin.state_dict(), rtol=0, atol=0)
    for codebook, unlike in zip(fresh.codebooks(), other.codebooks(), strict=True):
        assert codebook.is_initialized
        assert codebook.seed != unlike.seed
        assert len(codebook.entries.unique(dim=0)) == codebook.size
    seeds = {id(book): int(book.seed) for book in fresh.codebooks()}
    assert len(set(seeds.values())) == len(seeds)  # stages do not draw alike


@pytest.mark.parametrize("num", [1, 5, 31])
def test_fewer_vectors_than_entries_still_start_a_codebook(fresh: Quantizer, name: str, num: int):
    z_e = torch.randn(num, DIM)
    out = fresh(z_e)
    if name in LEARNED.keys() - BY_COMPANY - AT_RANDOM and "cosine" not in name:
        assert out.loss < 1e-6  # every vector is an entry
    for batch in torch.randn(5, 40, DIM):
        out = fresh(batch)
        assert out.z_q.isfinite().all()
    assert all(book.entries.isfinite().all() for book in fresh.codebooks())


def test_a_start_from_numbers_that_are_none_is_refused(fresh: Quantizer):
    z_e = torch.randn(100, DIM)
    z_e[3, 1] = torch.inf
    before = copy.deepcopy(fresh.state_dict())
    with pytest.raises(ValueError, match="not finite"):
        fresh(z_e)
    assert_close(fresh.state_dict(), before, rtol=0, atol=0)
    if fresh.codebooks():
        with pytest.raises(ValueError, match="give at least one"):
            fresh.initialize(torch.zeros(0, DIM), seed=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_code_of_a_vector_does_not_depend_on_the_precision_that_holds_it(
    quantizer: Quantizer, dtype: torch.dtype
):
    z_e = (2 * torch.randn(1000, DIM)).to(dtype)
    assert torch.equal(quantizer.encode(z_e), quantizer.encode(z_e.float()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@only(CASES.keys() - WITH_NETWORKS)
def test_a_model_of_half_precision_quantizes_as_before(
    quantizer: Quantizer, name: str, dtype: torch.dtype
):
    z_e = torch.randn(200, DIM).to(dtype)
    twin = copy.deepcopy(quantizer).to(dtype)
    (before, gradient), (after, same) = train_step(quantizer, z_e), train_step(twin, z_e)
    assert gradient.dtype == same.dtype == dtype
    assert torch.equal(before.indices, after.indices)
    assert torch.equal(before.z_q, after.z_q)
    assert torch.equal(gradient, same)
    assert_close(quantizer.state_dict(), twin.state_dict(), rtol=0, atol=0)


def test_a_model_of_double_precision_is_double_throughout(quantizer: Quantizer):
    quantizer.double()
    out, gradient = train_step(quantizer, torch.randn(200, DIM, dtype=torch.float64))
    assert out.z_q.dtype == out.loss.dtype == gradient.dtype == torch.float64
    assert quantizer.decode(out.indices).dtype == torch.float64
    for book in quantizer.codebooks():
        assert book.entries.dtype == book.average_sums.dtype == torch.float64
    quantizer.float()
    assert all(book.entries.dtype == torch.float32 for book in quantizer.codebooks())


def test_a_state_of_other_sizes_is_refused_in_one_line_and_nothing_is_loaded(
    quantizer: Quantizer, config: QuantizerConfig
):
    before, other = copy.deepcopy(quantizer.state_dict()), config.build(DIM).state_dict()
    other = {
        key: torch.cat([value, value]) if value.dim() else value for key, value in other.items()
    }
    if any(value.dim() for value in other.values()):  # else sizes are no part of the state
        with pytest.raises(
            ValueError, match=r"^\S+ has shape .* make the quantizer with the sizes"
        ):
            quantizer.load_state_dict(other)
    assert_close(dict(quantizer.state_dict()), dict(before), rtol=0, atol=0)


def test_vectors_of_float64_become_what_their_indices_decode_to(quantizer: Quantizer):
    """In the precision of the table, whatever that of the vectors is."""
    z_e = torch.randn(30, DIM, dtype=torch.float64, requires_grad=True)
    for training in (True, False):
        out = quantizer.train(training)(z_e)
        assert out.z_q.dtype == torch.float32
        if not training:
            assert torch.equal(out.z_q, quantizer.decode(out.indices))
            assert torch.equal(quantizer.encode(z_e), out.indices)
        (gradient,) = torch.autograd.grad(out.z_q.sum() + out.loss, z_e, allow_unused=True)
        assert gradient is None or gradient.dtype == torch.float64


def test_what_is_no_tensor_of_real_numbers_is_refused(quantizer: Quantizer):
    for call in (quantizer, quantizer.encode):
        with pytest.raises(TypeError, match=r"z_e is torch\.int64; give floating-point numbers"):
            call(torch.ones(3, DIM, dtype=torch.int64))
        with pytest.raises(TypeError, match=r"z_e: give a tensor .* not a list"):
            call([[0.0] * DIM])
    with pytest.raises(TypeError, match=r"indices: give a tensor .* not a list"):
        quantizer.decode([[0] * len(quantizer.codebook_sizes)])  # pyright: ignore


def test_wrong_shapes_are_refused(quantizer: Quantizer):
    z_e, mask = padded_batch()
    with pytest.raises(ValueError, match="mask has shape"):
        quantizer(z_e, mask[0])
    with pytest.raises(ValueError, match=r"mask is torch\.int64; give booleans"):
        quantizer(z_e, mask.long())
    with pytest.raises(ValueError, match="indices have shape"):
        quantizer.decode(torch.zeros(5, 7, dtype=torch.int64))


def test_indices_out_of_range_are_refused_with_their_range(quantizer: Quantizer):
    sizes = quantizer.codebook_sizes
    good = torch.zeros(5, len(sizes), dtype=torch.int64)
    for place, size in enumerate(sizes):
        for wrong in (-1, size):
            bad = good.clone()
            bad[2, place] = wrong
            with pytest.raises(ValueError, match="out of range"):
                quantizer.decode(bad)
    with pytest.raises(TypeError, match="give integers"):
        quantizer.decode(good.float())


def test_vectors_that_are_not_finite_are_refused_with_their_number(quantizer: Quantizer):
    z_e, mask = padded_batch()
    real = mask.nonzero()[:3].unbind(1)
    z_e[(*real, torch.tensor([0, 1, 2]))] = torch.tensor([torch.nan, torch.inf, -torch.inf])
    before = copy.deepcopy(quantizer.state_dict())
    for call in (quantizer, quantizer.encode, quantizer.eval()):
        with pytest.raises(NotFinite, match=r"3 of 30 vectors that are not finite"):
            call(z_e, mask)
    assert_close(dict(quantizer.state_dict()), dict(before), rtol=0, atol=0)


def test_a_training_step_does_not_look_at_its_own_indices(
    quantizer: Quantizer, monkeypatch: pytest.MonkeyPatch
):
    """A look at what a GPU holds waits for it."""

    def fail(self: Quantizer, indices: Tensor) -> None:
        raise AssertionError

    monkeypatch.setattr(Quantizer, "check_indices", fail)
    train_step(quantizer, torch.randn(20, DIM))
    with pytest.raises((AssertionError, ValueError)):
        quantizer.decode(torch.zeros(5, 7, dtype=torch.int64))


def test_how_vectors_lie_in_memory_does_not_matter(quantizer: Quantizer):
    z_e = torch.randn(DIM, 7, 6).permute(2, 1, 0)
    assert torch.equal(quantizer.encode(z_e), quantizer.encode(z_e.contiguous()))


@pytest.mark.parametrize("shape", [(), (3,), (2, DIM, 5, 7), (5, 1)])
def test_vectors_of_another_length_are_refused_before_they_start_a_codebook(
    fresh: Quantizer, shape: tuple[int, ...]
):
    before = copy.deepcopy(fresh.state_dict())
    for call in (fresh, fresh.encode, fresh.eval()):
        with pytest.raises(ValueError, match=f"z_e has shape .* the {DIM} coordinates"):
            call(torch.randn(shape))
    assert_close(dict(fresh.state_dict()), dict(before), rtol=0, atol=0)
