"""What must hold for sums of entries that are fitted together."""

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from vqkit.quantizers import (
    Additive,
    EMAVectorQuantizer,
    FiniteScalarQuantizer,
    Residual,
    SimVQuantizer,
)
from vqkit.quantizers.beam import beam_search
from vqkit.quantizers.together import MOST_ENTRIES, RIDGE, NormalEquations, fitted_together

DIM, SIZE, STAGES = 4, 8, 3


def stages(num: int = STAGES, size: int = SIZE) -> list[EMAVectorQuantizer]:
    return [EMAVectorQuantizer(DIM, size) for _ in range(num)]


def sums(num: int = 1500, offset: float = 0.0) -> Tensor:
    """Vectors that are sums of few entries, and some noise."""
    generator = torch.Generator().manual_seed(0)
    tables = torch.randn(STAGES, SIZE, DIM, generator=generator)
    picked = torch.randint(SIZE, (STAGES, num), generator=generator)
    vectors = sum(table[some] for table, some in zip(tables, picked, strict=True))
    return vectors + 0.02 * torch.randn(num, DIM, generator=generator) + offset


def error(layer: Residual, z: Tensor) -> float:
    return float((layer.decode(layer.encode(z)) - z).square().mean())


def started(layer: Residual, z: Tensor) -> Residual:
    layer.initialize(z, seed=0)
    return layer


@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_sums_that_are_fitted_together_lose_less_than_stages(offset: float):
    z = sums(offset=offset)
    residual = started(Residual(stages(), beams=SIZE), z)
    additive = started(Additive(stages(), beams=SIZE, rounds=25), z)
    assert error(additive, z) < 0.95 * error(residual, z)


def test_without_rounds_it_is_a_residual_quantizer():
    z = sums()
    one, other = started(Additive(stages(), beams=3, rounds=0), z), started(
        Residual(stages(), beams=3), z
    )  # fmt: skip
    assert torch.equal(one.encode(z), other.encode(z))
    assert torch.equal(one.decode(one.encode(z)), other.decode(other.encode(z)))


def test_the_start_is_never_worse_than_that_of_the_stages():
    for rounds in (1, 2, 3):
        z = torch.randn(100, DIM, generator=torch.Generator().manual_seed(1))
        additive = started(Additive(stages(), beams=2, rounds=rounds), z)
        residual = started(Residual(stages(), beams=2), z)
        assert error(additive, z) <= error(residual, z) * (1 + 1e-5)


def test_entries_are_solved_for_as_numpy_solves_the_normal_equations():
    z, sizes = sums(200), (SIZE, 5, 3)
    generator = torch.Generator().manual_seed(1)
    indices = torch.stack([torch.randint(k, (200,), generator=generator) for k in sizes], 1)
    onehot = np.zeros((200, sum(sizes)))
    for q, first in enumerate((0, SIZE, SIZE + 5)):
        onehot[np.arange(200), first + indices[:, q].numpy()] = 1
    gram = onehot.T @ onehot + RIDGE * np.eye(sum(sizes))
    expected = np.linalg.solve(gram, onehot.T @ z.double().numpy())
    whole, parts = (NormalEquations(sizes, z.double()) for _ in range(2))
    whole.add(z, indices)
    for rows in (slice(70), slice(70, None)):
        parts.add(z[rows], indices[rows])
    for equations in (whole, parts):
        assert_close(torch.cat(equations.solve()), torch.from_numpy(expected))
        for found, column, size in zip(equations.counts, indices.unbind(1), sizes, strict=True):
            assert torch.equal(found, column.bincount(minlength=size))


def test_an_entry_that_nobody_uses_adds_nothing():
    equations = NormalEquations((2, 2), torch.zeros(1, DIM))
    equations.add(torch.randn(5, DIM), torch.zeros(5, 2, dtype=torch.int64))
    first, second = equations.solve()
    assert_close(first[1], torch.zeros(DIM))
    assert_close(second[1], torch.zeros(DIM))


def test_the_same_seed_finds_the_same_entries_and_another_does_not():
    z, tables = sums(400), [torch.randn(SIZE, DIM) for _ in range(2)]
    options = {"beams": 2, "rounds": 6}
    one, again = (fitted_together(z, tables, seed=3, **options) for _ in range(2))
    assert_close(one, again, rtol=0, atol=0)
    other = fitted_together(z, tables, seed=4, **options)
    assert not torch.equal(one[0], other[0])


def test_refits_move_all_entries_at_once_and_the_error_never_grows():
    z = sums()
    layer = started(Additive(stages(), beams=4, rounds=2), z[:60])
    before = error(layer, z)
    found = layer.refit(list(z.split(400)), passes=6)
    assert len(found) == STAGES
    assert len(set(found)) == 1
    assert found[0][0] == pytest.approx(before, rel=1e-5)
    assert list(found[0]) == sorted(found[0], reverse=True)
    assert found[0][-1] == pytest.approx(error(layer, z), rel=1e-5)
    assert found[0][-1] < 0.9 * before
    for book, column in zip(layer.codebooks(), layer.encode(z).unbind(1), strict=True):
        assert_close(book.average_counts, column.bincount(minlength=SIZE) / 4)


def test_a_refit_of_padded_batches_is_that_of_what_is_real():
    z = sums(600)
    masked, packed = (started(Additive(stages(), beams=3, rounds=1), z[:60]) for _ in range(2))
    mask = torch.arange(600).view(20, 30) % 4 > 0
    holes = z.view(20, 30, DIM).masked_fill(~mask.unsqueeze(-1), torch.nan)
    one = masked.refit([(holes, mask)], passes=2)
    other = packed.refit([z.view(20, 30, DIM)[mask]], passes=2)
    assert one == other


def test_given_entries_stay_where_they_are():
    layer = Additive(stages(), rounds=5)
    layer.initialize(sums(), seed=0)
    before = [book.entries.clone() for book in layer.codebooks()]
    layer.initialize(sums() + 1, seed=0, keep_started=True)
    assert all(torch.equal(a, b.entries) for a, b in zip(before, layer.codebooks(), strict=True))


@pytest.mark.parametrize(
    "made",
    [
        lambda: [EMAVectorQuantizer(DIM, 8)] * 2,
        lambda: [SimVQuantizer(DIM, 8) for _ in range(2)],
        lambda: [EMAVectorQuantizer(DIM, 8, codebook=book) for book in [stages(1)[0].codebook] * 2],
    ],
    ids=["shared", "linear", "shared codebook"],
)
def test_entries_that_cannot_be_solved_for_are_refused(made):
    with pytest.raises(ValueError, match="need codebooks of their own"):
        Additive(made())


def test_stages_without_a_codebook_and_too_many_entries_are_refused():
    with pytest.raises(ValueError, match="give 1, or more with codebooks"):
        Additive([FiniteScalarQuantizer((5,) * DIM) for _ in range(2)])
    half = MOST_ENTRIES // 2 + 1
    with pytest.raises(ValueError, match=f"have {2 * half} entries together"):
        Additive(stages(2, half))


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_a_beam_as_wide_as_all_sums_finds_the_nearest_sum(offset: float):
    generator = torch.Generator().manual_seed(0)
    tables = [torch.randn(5, DIM, generator=generator) for _ in range(3)]
    tables[0] = tables[0] + offset
    z = 2 * torch.randn(60, DIM, generator=generator) + offset
    a, b, c = (table.double() for table in tables)
    every = (a[:, None, None] + b[:, None] + c).view(-1, DIM)
    gaps = (z.double().unsqueeze(1) - every).square().sum(-1)
    found = beam_search(z, tables, 25)
    own = gaps.gather(1, (found * torch.tensor([25, 5, 1])).sum(1, keepdim=True)).squeeze(1)
    assert_close(own, gaps.amin(1), rtol=1e-4 if offset else 1e-9, atol=0)


def test_a_beam_of_one_takes_the_nearest_entry_each_time():
    z, residual = sums(200), started(Residual(stages()), sums())
    tables = [book.table for book in residual.codebooks()]
    assert torch.equal(beam_search(z, tables, 1), residual.encode(z))


def test_far_from_the_origin_entries_are_chosen_as_in_float64():
    generator = torch.Generator().manual_seed(0)
    table = torch.randn(64, DIM, generator=generator) + 1000
    z = torch.randn(500, DIM, generator=generator) + 1000
    gaps = (z.double().unsqueeze(1) - table.double()).square().sum(-1)
    assert torch.equal(beam_search(z, [table], 1).squeeze(1), gaps.argmin(1))


def test_no_vectors_have_no_sums():
    assert beam_search(torch.zeros(0, DIM), [torch.randn(5, DIM)], 2).shape == (0, 1)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_noise_is_as_large_as_what_is_left_so_that_rounds_pay_at_any_error(scale: float):
    """Few sums stand for nearly all: noise as large as the vectors would lose what was found."""
    generator = torch.Generator().manual_seed(0)
    far = 50 * torch.randn(SIZE, DIM, generator=generator)
    z = scale * (far[torch.randint(SIZE, (1500,), generator=generator)] + sums())
    few, many = (started(Additive(stages(), beams=4, rounds=rounds), z) for rounds in (0, 25))
    assert error(many, z) < 0.95 * error(few, z)
