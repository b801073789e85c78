"""What must hold for residual quantization in particular."""

import copy
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import (
    BinarySphericalQuantizer,
    GumbelQuantizer,
    IndexBackpropQuantizer,
    LookupFreeQuantizer,
    Normalized,
    Product,
)
from vqkit.quantizers.base import Quantized
from vqkit.quantizers.codebook import Codebook, Metric
from vqkit.quantizers.ema import EMAConfig, EMAVectorQuantizer
from vqkit.quantizers.residual import Residual, ResidualConfig
from vqkit.quantizers.scalar import FiniteScalarQuantizer, FSQConfig
from vqkit.quantizers.vector import VectorQuantizer

DIM, SIZE, STAGES, BETA = 4, 16, 4, 0.25
Kind = type[EMAVectorQuantizer] | type[VectorQuantizer]


def layer(
    stages: int = STAGES, kind: Kind = EMAVectorQuantizer, metric: Metric = "euclidean", **options
) -> Residual:
    """Stages of given entries, each smaller than the one before; nothing is committed yet."""
    torch.manual_seed(0)
    parts = []
    for number in range(stages):
        book = Codebook.from_entries(torch.randn(SIZE, DIM) / 2**number, metric=metric)
        parts.append(kind(DIM, SIZE, commitment=BETA, revive=False, codebook=book))
    made = Residual(parts, **options)
    made.commit_in_forward = False
    return made


def tables(quantizer: Residual) -> list[Tensor]:
    return [book.table.detach().clone() for book in quantizer.codebooks()]


def by_hand(entries: list[Tensor], z_e: Tensor) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Indices (N, Q), what each stage saw and what it took (N, D each), by brute force."""
    indices, seen, chosen = [], [z_e], []
    for table in entries:
        indices.append((table - seen[-1].unsqueeze(1)).square().sum(-1).argmin(-1))
        chosen.append(table[indices[-1]])
        seen.append(seen[-1] - chosen[-1])
    return torch.stack(indices, -1), seen[:-1], chosen


def num_stages(quantizer: Residual, out: Quantized) -> Tensor:
    """By how many stages each vector of a batch was coded, seen from outside. (...) int64"""
    prefixes = [quantizer.decode(out.indices[..., :num]) for num in range(1, STAGES + 1)]
    same = torch.stack([(out.z_q == prefix).all(-1) for prefix in prefixes], -1)
    assert (same.sum(-1) == 1).all()
    return 1 + same.long().argmax(-1)


def errors_by_stage(quantizer: Residual, z: Tensor, indices: Tensor) -> list[float]:
    """Mean squared error of the sums of 1, 2, ... stages."""
    prefixes = [quantizer.decode(indices[:, :num]) for num in range(1, STAGES + 1)]
    return [(z - prefix).square().mean().item() for prefix in prefixes]


def assert_share(hits: Tensor, share: float):
    """The number of hits is within five standard deviations of a binomial one."""
    num = hits.numel()
    assert abs(hits.sum().item() - share * num) < 5 * (share * (1 - share) * num) ** 0.5


def test_z_q_is_the_sum_of_the_entries_nearest_to_what_the_stages_before_left():
    quantizer, z_e = layer(), torch.randn(50, DIM)
    indices, _, chosen = by_hand(tables(quantizer), z_e)
    out = quantizer(z_e)
    assert torch.equal(out.indices, indices)
    assert torch.equal(quantizer.encode(z_e), indices)
    assert_close(out.z_q, torch.stack(chosen).sum(0))


def test_any_number_of_leading_stages_decodes_to_the_sum_so_far():
    quantizer = layer()
    indices, _, chosen = by_hand(tables(quantizer), torch.randn(50, DIM))
    for num in range(1, STAGES + 1):
        assert_close(quantizer.decode(indices[:, :num]), torch.stack(chosen[:num]).sum(0))


def test_a_number_of_columns_that_no_stages_have_is_refused():
    for shape in [(), (3, 0), (3, 5)]:
        with pytest.raises(ValueError, match=r"\[1, 2, 3, 4\] long"):
            layer().decode(torch.zeros(shape, dtype=torch.int64))


def test_the_error_falls_with_every_stage_after_training():
    quantizer = ResidualConfig(quantizer=EMAConfig(codebook_size=SIZE), stages=STAGES).build(DIM)
    for batch in torch.randn(20, 200, DIM):
        quantizer(batch)
    errors = errors_by_stage(quantizer, batch, quantizer.encode(batch))
    assert all(later < 0.75 * earlier for earlier, later in pairwise([1, *errors]))


def test_every_stages_commitment_pulls_the_encoder():
    quantizer, z_e = layer(), torch.randn(30, DIM, requires_grad=True)
    _, seen, chosen = by_hand(tables(quantizer), z_e.detach())
    out = quantizer(z_e)
    gaps = torch.stack(seen) - torch.stack(chosen)
    assert_close(out.loss, BETA * gaps.square().mean())
    assert_close(out.terms["commitment"].value, gaps.square().mean())
    out.objective.total.backward()
    assert_close(z_e.grad, 2 * BETA / (STAGES * DIM) * gaps.sum(0))


def test_each_stage_of_a_codebook_moved_by_gradient_is_pulled_to_what_it_saw():
    quantizer, z_e = layer(kind=VectorQuantizer), torch.randn(30, DIM)
    indices, seen, chosen = by_hand(tables(quantizer), z_e)
    quantizer(z_e).loss.backward()
    for number, book in enumerate(quantizer.codebooks()):
        slopes = 2 / (STAGES * DIM * 30) * (chosen[number] - seen[number])
        expected = torch.zeros(SIZE, DIM).index_add_(0, indices[:, number], slopes)
        assert_close(book.entries.grad, expected)


@pytest.mark.parametrize("kind", [EMAVectorQuantizer, VectorQuantizer])
def test_the_decoders_gradient_reaches_the_encoder_exactly_once(kind: type):
    quantizer, z_e = layer(kind=kind), torch.randn(30, DIM, requires_grad=True)
    quantizer(z_e).z_q.backward(asked := torch.randn(30, DIM))
    assert torch.equal(z_e.grad, asked)  # pyright: ignore[reportArgumentType]
    assert all(book.entries.grad is None for book in quantizer.codebooks())


def test_a_directional_gradient_is_that_of_one_step_to_the_sum():
    parts = [VectorQuantizer(DIM, SIZE, gradient="directional") for _ in range(2)]
    quantizer, z_e = Residual(parts), torch.randn(30, DIM, requires_grad=True)
    quantizer.initialize(torch.randn(99, DIM), seed=0)
    out, leaves = quantizer(z_e), [z_e, *(book.entries for book in quantizer.codebooks())]
    gap = sum(leaf[some] for leaf, some in zip(leaves[1:], out.indices.T, strict=True)) - z_e
    step = gap.norm(dim=-1, keepdim=True)
    expected = torch.autograd.grad((z_e + step * (gap / step).detach()).square().sum(), leaves)
    assert_close(torch.autograd.grad(out.z_q.square().sum(), leaves), expected)


@pytest.mark.parametrize("dropout", [0.2, 0.7])
def test_the_share_of_items_coded_by_fewer_stages_is_the_dropout(dropout: float):
    quantizer = layer(dropout=dropout)
    used = num_stages(quantizer, quantizer(torch.randn(4000, DIM)))
    assert_share(used < STAGES, dropout)
    for num in range(1, STAGES):
        assert_share(used[used < STAGES] == num, 1 / (STAGES - 1))


def test_dropout_happens_at_batch_size_one_as_often_as_asked_for():
    quantizer, z_e = layer(dropout=0.5, kind=VectorQuantizer), torch.randn(1, 3, DIM)
    quantizer.commit_in_forward = True
    used = torch.cat([num_stages(quantizer, quantizer(z_e)) for _ in range(150)])
    assert (used == used[:, :1]).all()  # positions of one item alike
    assert_share(used[:, 0] < STAGES, 0.5)
    assert set(used[:, 0].tolist()) == {1, 2, 3, 4}
    assert quantizer(z_e[0, 0]).z_q.shape == (DIM,)


def test_dropped_items_have_no_part_in_a_stages_statistics_and_losses():
    quantizer, z_e = layer(dropout=0.8), torch.randn(300, DIM, requires_grad=True)
    entries = tables(quantizer)
    indices, seen, chosen = by_hand(entries, z_e.detach())
    out = quantizer(z_e)
    used = num_stages(quantizer, out)
    quantizer.commit()
    total, pull = 0, 0
    for number, book in enumerate(quantizer.codebooks()):
        mine = used > number
        counts = indices[mine, number].bincount(minlength=SIZE)
        assert_close(book.average_counts, 0.01 * counts)
        for k in counts.nonzero().flatten():  # every stage is trained, by what reaches it
            rows = seen[number][mine & (indices[:, number] == k)]
            assert_close(book.entries[k].data, rows.mean(0))
        gaps = (seen[number] - chosen[number]) * mine.unsqueeze(-1)
        total = total + gaps.square().mean(-1).sum()
        pull = pull + 2 * BETA / (STAGES * DIM) * gaps
        assert torch.equal(out.indices[:, number], indices[:, number] * mine)
    assert_close(out.objective.total, BETA / STAGES * total)
    assert_close(out.terms["commitment"].total, total)
    assert out.terms["commitment"].count == used.sum()
    out.objective.total.backward()
    assert_close(z_e.grad, pull)


@pytest.mark.parametrize("around", ["alone", "product", "shared", "normalized"])
def test_integers_that_were_coded_are_told_from_those_of_stages_left_out(around: str):
    inner = [layer(dropout=0.8, kind=VectorQuantizer) for _ in range(2)]
    quantizer = {
        "alone": lambda: inner[0],
        "product": lambda: Product(inner),
        "shared": lambda: Product([inner[0]] * 2),
        "normalized": lambda: Normalized(inner[0]),
    }[around]()
    out = quantizer(torch.randn(200, 3, quantizer.dim))
    assert out.coded is not None
    assert out.coded.shape == out.indices.shape
    halves = zip(out.z_q.split(DIM, -1), out.indices.split(STAGES, -1), strict=True)
    for number, (z_q, indices) in enumerate(halves):
        coded = out.coded[..., number * STAGES : (number + 1) * STAGES]
        books = inner[number if around == "product" else 0].codebooks()
        stages = [book.lookup(some) for book, some in zip(books, indices.unbind(-1), strict=True)]
        assert_close((torch.stack(stages, -2) * coded.unsqueeze(-1)).sum(-2), z_q)
        assert coded[..., 0].all()
        assert not coded[..., -1].all()
    assert quantizer.eval()(torch.randn(5, 3, quantizer.dim)).coded is None


def test_dropout_depends_on_seed_step_and_number_of_the_item_alone():
    whole, split, other = (layer(dropout=0.5, kind=VectorQuantizer) for _ in range(3))
    split.load_state_dict(whole.state_dict())
    other.seed.copy_(whole.seed + 1)
    before = None
    for batch in torch.randn(3, 100, DIM):
        used = num_stages(whole, whole(batch))
        parts = [num_stages(split, split(some)) for some in (batch[:30], batch[30:30], batch[30:])]
        assert torch.equal(torch.cat(parts), used)
        assert not torch.equal(num_stages(other, other(batch)), used)
        assert before is None or not torch.equal(before, used)
        before = used
        for quantizer in (whole, split, other):
            quantizer.commit()


def test_no_item_is_dropped_in_evaluation():
    quantizer = layer(dropout=1.0).eval()
    out = quantizer(torch.randn(100, DIM))
    assert torch.equal(out.z_q, quantizer.decode(out.indices))


def test_a_state_saved_in_the_middle_continues_bit_for_bit_with_dropout():
    config = ResidualConfig(quantizer=EMAConfig(codebook_size=SIZE), stages=3, dropout=0.5)
    first, second = config.build(DIM), config.build(DIM)
    for batch in torch.randn(3, 50, DIM):
        first(batch)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for batch in torch.randn(3, 50, DIM):
        assert torch.equal(first(batch).z_q, second(batch).z_q)
    assert_close(dict(first.state_dict()), dict(second.state_dict()), rtol=0, atol=0)


def test_items_before_a_state_was_loaded_do_not_count_for_dropout():
    quantizer, twin = (layer(dropout=0.5, kind=VectorQuantizer) for _ in range(2))
    twin.load_state_dict(quantizer.state_dict())
    quantizer(torch.randn(10, DIM))
    quantizer.load_state_dict(twin.state_dict())
    assert torch.equal(quantizer(z_e := torch.randn(50, DIM)).z_q, twin(z_e).z_q)


def test_a_shared_codebook_is_one_that_all_stages_move_once_per_commit():
    entries = torch.randn(SIZE, DIM)
    part = EMAVectorQuantizer(DIM, SIZE, codebook=Codebook.from_entries(entries), revive=False)
    quantizer, z_e = Residual([part] * 3), torch.randn(100, DIM)
    indices, seen, _ = by_hand([entries] * 3, z_e)
    quantizer(z_e)
    assert len(set(quantizer.codebooks())) == 1 == part.codebook.step
    assert sum(name.endswith("entries") for name in quantizer.state_dict()) == 1
    for k in range(SIZE):
        rows = torch.cat(seen)[indices.T.flatten() == k]
        assert_close(part.codebook.entries[k].data, rows.mean(0) if len(rows) else entries[k])


def test_a_shared_codebook_starts_from_what_all_stages_see():
    quantizer = ResidualConfig(quantizer=EMAConfig(codebook_size=8), stages=2, shared=True).build(2)
    corners = 100 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]])
    quantizer(corners.repeat(50, 1) + torch.randn(200, 2))
    sizes = quantizer.codebooks()[0].entries.norm(dim=-1)
    assert sizes.amin() < 10 < 100 < sizes.amax()  # only what a stage leaves is so near to 0


def test_as_many_beams_as_entries_find_the_best_of_all_pairs():
    quantizer, z_e = layer(2, beams=SIZE), torch.randn(50, DIM)
    one, two = tables(quantizer)
    sums = (one.unsqueeze(1) + two).flatten(0, 1)
    best = torch.cdist(z_e.double(), sums.double()).argmin(-1)
    expected = torch.stack([best // SIZE, best % SIZE], -1)
    assert torch.equal(quantizer.encode(z_e), expected)
    assert not torch.equal(layer(2).encode(z_e), expected)


def test_more_beams_have_less_error():
    quantizers, z_e = [layer(beams=beams) for beams in (1, 2, 4, 8)], torch.randn(500, DIM)
    errors = [errors_by_stage(one, z_e, one.encode(z_e))[-1] for one in quantizers]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.9 * errors[0]


def test_beams_are_followed_in_evaluation_and_not_in_training():
    quantizer, z_e = layer(beams=4), torch.randn(100, DIM)
    assert torch.equal(quantizer(z_e).indices, layer().encode(z_e))
    out = quantizer.eval()(z_e)
    assert torch.equal(out.indices, quantizer.encode(z_e))
    assert torch.equal(out.z_q, quantizer.decode(out.indices))
    assert not torch.equal(out.indices, layer().encode(z_e))


@pytest.mark.parametrize("kind", [EMAVectorQuantizer, VectorQuantizer, IndexBackpropQuantizer])
def test_losses_along_beams_are_those_of_the_stages_where_both_choose_alike(kind: type):
    beams, greedy = layer(2, kind=kind, beams=4).eval(), layer(2, kind=kind).eval()
    z_e = torch.randn(300, DIM)
    mask = (beams.encode(z_e) == greedy.encode(z_e)).all(-1)
    assert 10 < mask.sum() < 300
    one, other = beams(z_e, mask), greedy(z_e, mask)
    assert_close(one.loss, other.loss)
    assert one.terms.keys() == other.terms.keys()
    for name, mean in one.terms.items():
        assert_close(mean.value, other.terms[name].value)


@pytest.mark.parametrize("kind", [GumbelQuantizer, FiniteScalarQuantizer])
def test_beams_of_stages_without_squared_errors_are_refused(kind: type):
    made = [kind(DIM, 8) if kind is GumbelQuantizer else kind([5] * DIM) for _ in range(2)]
    with pytest.raises(ValueError, match="whose losses are squared errors"):
        Residual(made, beams=2)


@pytest.mark.parametrize(
    "stage",
    [
        lambda: Normalized(EMAVectorQuantizer(DIM, 8)),
        lambda: EMAVectorQuantizer(DIM, 8, metric="cosine"),
        lambda: BinarySphericalQuantizer(DIM),
        lambda: Product([Normalized(EMAVectorQuantizer(DIM, 8))]),
    ],
)
def test_stages_that_make_all_vectors_alike_in_length_are_refused(stage: Callable):
    with pytest.raises(ValueError, match="gets shorter and shorter; put it around all stages"):
        Residual([stage() for _ in range(3)])


@pytest.mark.parametrize(
    "stage",
    [
        lambda: LookupFreeQuantizer(DIM),
        lambda: Product([LookupFreeQuantizer(1), FiniteScalarQuantizer([5] * (DIM - 1))]),
        lambda: Product([FiniteScalarQuantizer([4] * DIM)]),
    ],
)
def test_the_error_of_stages_without_a_table_falls_with_every_stage(stage: Callable):
    quantizer, z_e = Residual([stage() for _ in range(5)]).eval(), torch.rand(500, DIM) * 1.6 - 0.8
    indices, z = quantizer.encode(z_e), quantizer.squashed(z_e)
    per_stage = indices.shape[-1] // 5
    prefixes = (quantizer.decode(indices[..., : n * per_stage]) for n in range(1, 6))
    errors = [(z_q - z).square().mean() for z_q in prefixes]
    assert all(later < 0.5 * earlier for earlier, later in pairwise(errors))


@pytest.mark.parametrize("levels", [(5, 5, 5), (8, 8, 8), (3, 3, 3), (8, 5, 4)])
def test_the_error_of_residual_scalar_quantization_falls_with_every_stage(levels: tuple):
    quantizer = ResidualConfig(quantizer=FSQConfig(levels=levels), stages=4).build(3)
    z_e = (2 * torch.randn(1000, 3)).requires_grad_()
    squashed = FiniteScalarQuantizer(levels).squash(z_e)
    out = quantizer(z_e)
    errors = errors_by_stage(quantizer, squashed, out.indices)
    assert all(later < 0.5 * earlier for earlier, later in pairwise(errors))
    once = torch.autograd.grad(squashed.sum(), z_e)
    assert_close(torch.autograd.grad(out.z_q.sum(), z_e), once)


def test_stages_that_do_not_fit_together_are_refused():
    part, other = VectorQuantizer(DIM, SIZE), VectorQuantizer(DIM, SIZE, gradient="rotation")
    with pytest.raises(ValueError, match="stages have gradients"):
        Residual([part, other])
    with pytest.raises(ValueError, match="share all or none"):
        Residual([part, part, other])


def test_nothing_and_what_is_no_quantizer_are_refused():
    with pytest.raises(ValueError, match="there are no quantizers; give one at least"):
        Residual([])
    with pytest.raises(TypeError, match="one of the quantizers is 3; give quantizers"):
        Residual([3])  # pyright: ignore


def test_levels_of_2_are_no_stages():
    with pytest.raises(ValueError, match="give levels of at least 3"):
        Residual([FiniteScalarQuantizer((4, 2, 3)) for _ in range(2)])
    Residual([FiniteScalarQuantizer((4, 2, 3))])  # one stage leaves nothing to another
