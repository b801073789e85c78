"""What must hold for the choices that a codebook may start by."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from vqkit.quantizers import Codebook, EMAVectorQuantizer, SimVQuantizer, VectorQuantizer
from vqkit.quantizers.start import STARTS, started

DECAY, SIZE, DIM = 0.9, 16, 4


def data(num: int = 400) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(num, DIM) * torch.tensor([5.0, 1, 0.1, 0]) + torch.tensor([100.0, 0, -3, 7])


def test_a_start_from_data_is_distinct_vectors_of_them():
    z = data(20).repeat_interleave(50, 0)  # each vector many times
    entries = started("data", z, SIZE, seed=0).entries
    assert len(entries.unique(dim=0)) == SIZE
    assert (entries.unsqueeze(1) == z).all(-1).any(1).all()


def test_a_start_from_data_draws_every_vector_alike():
    """Of 20 vectors, 4 are drawn: each by one seed of five."""
    z = torch.arange(20.0).unsqueeze(1)
    drawn = [started("data", z, 4, seed=seed).entries.flatten().long() for seed in range(2000)]
    shares = torch.cat(drawn).bincount(minlength=20) / 2000
    assert_close(shares, torch.full((20,), 0.2), rtol=0, atol=5 * (0.2 * 0.8 / 2000) ** 0.5)


@pytest.mark.parametrize("num", [1, 5, 15])
def test_fewer_vectors_than_entries_are_all_drawn_and_the_rest_are_noisy_copies(num: int):
    z = data(num)
    begun = started("data", z, SIZE, seed=0)
    assert {tuple(v.tolist()) for v in z} == {tuple(v.tolist()) for v in begun.entries[:num]}
    assert begun.counts.tolist() == [1] * num + [0] * (SIZE - num)
    near = torch.cdist(begun.entries, z).amin(1)
    assert (near <= 0.05 * torch.cdist(z, z).amax()).all()
    assert (num == 1) or (near[num:] > 0).all()


def test_a_normal_start_has_the_mean_and_the_spread_of_each_coordinate():
    z, size = data(), 20_000
    entries = started("normal", z.double(), size, seed=0).entries
    mean, spread = z.double().mean(0), z.double().std(0, correction=0)
    assert_close(entries.mean(0), mean, rtol=0, atol=float(5 * spread.amax() / size**0.5))
    assert_close(entries.std(0), spread, rtol=5 / (2 * size) ** 0.5, atol=1e-9)
    third = ((entries[:, 0] - mean[0]) / spread[0]).abs() > 1
    assert float(third.double().mean()) == pytest.approx(0.3173, abs=0.02)


def test_a_start_from_data_counts_as_if_its_vectors_had_been_committed_once():
    book = Codebook(SIZE, DIM, start="data")
    book.initialize(data(), seed=0, decay=DECAY)
    twin = Codebook.from_entries(book.entries.data)
    twin.collect(twin.entries.data, torch.arange(SIZE))
    twin.commit(DECAY)
    for name in ("entries", "average_counts", "average_sums", "unused_for"):
        assert_close(book.state_dict()[name], twin.state_dict()[name])


def test_a_normal_start_counts_as_if_nobody_had_used_it():
    book = Codebook(SIZE, DIM, start="normal")
    book.initialize(data(), seed=0, decay=DECAY)
    assert not book.average_counts.any()
    assert not book.average_sums.any()


@pytest.mark.parametrize("start", STARTS)
def test_in_the_first_step_entries_move_among_their_vectors_and_unused_ones_stay(start: str):
    """Sums and counts that did not fit would shrink the codebook, or throw entries far away."""
    layer, z_e = EMAVectorQuantizer(DIM, SIZE, start=start, decay=DECAY, revive=False), data()
    layer.initialize(z_e, seed=0)
    before = layer.codebook.entries.clone()
    indices = layer(z_e).indices.squeeze(-1)
    for k in range(SIZE):
        entry, mine = layer.codebook.entries[k], z_e[indices == k]
        if len(mine):
            hull = torch.cat([mine, before[k : k + 1]])
            assert (entry >= hull.amin(0) - 1e-4).all()
            assert (entry <= hull.amax(0) + 1e-4).all()
        else:
            assert torch.equal(entry, before[k])


@pytest.mark.parametrize("start", STARTS)
def test_every_start_depends_on_the_vectors_and_the_seed_alone(start: str):
    made = []
    for torch_seed, seed in [(1, 5), (2, 5), (1, 6)]:
        torch.manual_seed(torch_seed)
        book = Codebook(SIZE, DIM, start=start)
        book.initialize(data(), seed=seed)
        made.append(book.state_dict())
    assert_close(made[0], made[1], rtol=0, atol=0)
    assert not torch.equal(made[0]["entries"], made[2]["entries"])


@pytest.mark.parametrize("start", STARTS)
def test_with_the_cosine_every_start_is_on_the_sphere(start: str):
    layer = VectorQuantizer(DIM, SIZE, start=start, metric="cosine")
    layer(data())
    table = layer.codebook.entries
    assert_close(table.norm(dim=-1), torch.ones(SIZE))
    if start == "data":
        directions = F.normalize(data(), dim=-1)
        assert (torch.cdist(table, directions).amin(1) < 1e-3).all()


@pytest.mark.parametrize("start", STARTS)
def test_every_start_is_what_a_linear_map_makes_of_the_entries(start: str):
    layer, plain = SimVQuantizer(DIM, SIZE, start=start), Codebook(SIZE, DIM, start=start)
    with torch.no_grad():
        layer.codebook.weight.mul_(3)
    layer.initialize(data(), seed=0)
    plain.initialize(data(), seed=0)
    assert torch.equal(layer.codebook.table, plain.table)


@pytest.mark.parametrize("start", STARTS)
def test_vectors_that_are_no_start_are_refused_by_each(start: str):
    book = Codebook(SIZE, DIM, start=start)
    before = copy.deepcopy(book.state_dict())
    with pytest.raises(ValueError, match="give at least one"):
        book.initialize(torch.zeros(0, DIM), seed=0)
    with pytest.raises(ValueError, match="not finite"):
        book.initialize(torch.full((1, DIM), torch.inf), seed=0)
    assert_close(book.state_dict(), before, rtol=0, atol=0)


def test_a_start_that_is_none_or_another_is_refused():
    with pytest.raises(ValueError, match="start is 'zeros'; give one of kmeans, progressive"):
        Codebook(SIZE, DIM, start="zeros")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="codebook has start 'kmeans'; make it with 'data'"):
        VectorQuantizer(DIM, SIZE, start="data", codebook=Codebook(SIZE, DIM))
    shared = Codebook(SIZE, DIM, start="data")
    assert VectorQuantizer(DIM, SIZE, codebook=shared).codebook.start == "data"
