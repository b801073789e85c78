"""What must hold for rules that give vectors their entries."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from tests.quantizers.watching import Watch
from torch import Tensor

from vqkit.quantizers import Balanced, Codebook, Nearest, Sampled, VectorQuantizer, scores
from vqkit.quantizers.assignment import Assignment

RULES = pytest.mark.parametrize("rule", [Sampled(temperature=0.5), Balanced()])


def book(size: int = 16, dim: int = 4) -> Codebook:
    return Codebook.from_entries(torch.randn(size, dim, dtype=torch.float64))


def choose(rule: Assignment, codebook: Codebook, z: Tensor) -> Tensor:
    """The rule's choice where no vector is padding. (N, D) -> (N,)"""
    return rule(codebook, z, torch.ones(len(z), dtype=torch.bool))


def squared_distances(codebook: Codebook, z: Tensor) -> Tensor:
    return (z.unsqueeze(1) - codebook.entries.data).square().sum(-1)


def uneven(num: int = 2000) -> Tensor:
    """Nine of ten vectors in one narrow cluster. (N, 4) float64"""
    z = 1.5 * torch.randn(num, 4, dtype=torch.float64)
    z[num // 10 :] = 0.5 + 0.1 * z[num // 10 :]
    return z[torch.randperm(num)]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 5.0])
def test_entries_are_drawn_with_the_stated_probabilities(temperature: float):
    codebook, num = Codebook.from_entries(0.3 * torch.randn(6, 4, dtype=torch.float64)), 20_000
    z = 0.3 * torch.randn(1, 4, dtype=torch.float64)
    chances = (-squared_distances(codebook, z)[0] / temperature).softmax(-1)
    indices = choose(Sampled(temperature=temperature), codebook, z.expand(num, 4))
    counts = indices.bincount(minlength=6)
    likely = chances * num > 5
    assert likely.sum() >= 3
    chi_square = ((counts - num * chances).square() / (num * chances))[likely].sum()
    degrees = int(likely.sum())
    assert chi_square < degrees + 4 * math.sqrt(2 * degrees)


def test_with_a_low_temperature_the_nearest_is_drawn():
    codebook, z = book(), torch.randn(500, 4, dtype=torch.float64)
    drawn = choose(Sampled(temperature=1e-9), codebook, z)
    assert torch.equal(drawn, squared_distances(codebook, z).argmin(-1))


def test_with_a_high_temperature_all_entries_are_drawn_alike():
    drawn = choose(Sampled(temperature=1e6), book(), torch.randn(16_000, 4).double())
    assert drawn.bincount(minlength=16).sub(1000).abs().amax() < 5 * math.sqrt(1000)


def test_a_draw_depends_on_seed_step_and_number_and_not_on_other_vectors():
    rule, codebook, z = Sampled(temperature=2.0), book(), torch.randn(300, 4).double()

    def drawn(z: Tensor, *, seed: int = 1, step: int = 0) -> Tensor:
        twin = copy.deepcopy(codebook)
        twin.random_seed = seed
        twin.step.fill_(step)
        return choose(rule, twin, z)

    first = drawn(z)
    assert torch.equal(drawn(z), first)
    assert (drawn(z, seed=2) != first).sum() > 100
    assert (drawn(z, step=1) != first).sum() > 100
    others = torch.cat([torch.randn(200, 4).double(), z[200:]])
    assert torch.equal(drawn(others)[200:], first[200:])


@RULES
def test_padding_has_no_part_in_what_others_get(rule: Assignment):
    codebook, z = book(), torch.randn(400, 4).double()
    mask = torch.rand(400) > 0.4
    twin = copy.deepcopy(codebook)
    masked = rule(codebook, torch.where(mask.unsqueeze(-1), z, 7.0), mask)
    assert torch.equal(masked[mask], choose(rule, twin, z[mask]))


def test_micro_batches_in_their_order_are_drawn_as_one_batch():
    rule, codebook, z = Sampled(temperature=2.0), book(), torch.randn(300, 4).double()
    whole = choose(rule, copy.deepcopy(codebook), z)
    parts = [choose(rule, codebook, part) for part in z.split([120, 0, 1, 179])]
    assert torch.equal(torch.cat(parts), whole)
    again = choose(rule, codebook, z)  # the same vectors once more are others of the step
    assert (again != whole).sum() > 100


def test_each_step_draws_anew_and_counts_from_its_start():
    torch.manual_seed(0)
    start = Codebook.from_entries(torch.randn(16, 4))
    layer = VectorQuantizer(4, 16, codebook=start, assignment=Sampled(temperature=2.0))
    z_e = torch.randn(300, 4)
    twin = copy.deepcopy(layer)
    first, second = layer(z_e).indices, layer(z_e).indices
    assert (first != second).sum() > 100
    twin(z_e[:10])
    assert torch.equal(twin(z_e).indices, second)


@RULES
def test_evaluation_and_encoding_take_the_nearest(rule: Assignment):
    codebook = Codebook.from_entries(torch.randn(16, 4))
    layer = VectorQuantizer(4, 16, codebook=codebook, assignment=rule, commit_in_forward=False)
    z_e = uneven().float()
    nearest = squared_distances(codebook, z_e).argmin(-1, keepdim=True)
    assert (layer(z_e).indices != nearest).any()
    assert torch.equal(layer.encode(z_e), nearest)
    assert torch.equal(layer.eval()(z_e).indices, nearest)


def test_nearest_is_the_nearest():
    codebook, z = book(), torch.randn(500, 4).double()
    assert torch.equal(choose(Nearest(), codebook, z), squared_distances(codebook, z).argmin(-1))


def test_balanced_use_is_far_more_even_than_that_of_the_nearest():
    codebook, z = book(), uneven()
    nearest = choose(Nearest(), codebook, z).bincount(minlength=16)
    balanced = choose(Balanced(softness=0.01, iterations=50), codebook, z).bincount(minlength=16)
    assert nearest.amax() > 8 * len(z) / 16
    assert balanced.amax() < 1.5 * len(z) / 16
    assert balanced.amin() > nearest.amin()
    assert balanced.double().std(correction=0) < nearest.double().std(correction=0) / 10


@pytest.mark.parametrize("num", [1, 7, 18, 30, 200])
def test_balanced_takes_the_first_of_entries_that_are_copies(num: int):
    """Whatever the number of rows, by which a product rounds the columns of copies unlike."""
    table = torch.randn(5, 4).double()
    codebook = Codebook.from_entries(table.repeat(13, 1)).double()
    chosen = choose(Balanced(), codebook, torch.randn(num, 4).double())
    assert chosen.amax() < 5


@pytest.mark.parametrize("iterations", [1, 5, 20])
def test_balanced_is_the_sinkhorn_iteration_written_out(iterations: int):
    """Scaling of rows and columns of the matrix exp(-distance / softness) in float64."""
    codebook, z = book(), uneven(500)
    squares = squared_distances(codebook, z)
    kernel = (-squares / (0.05 * squares.mean())).exp()
    columns = torch.ones(16, dtype=torch.float64)
    for _ in range(iterations):
        rows = 1 / (kernel @ columns)
        columns = len(z) / 16 / (kernel.T @ rows)
    expected = (kernel * columns).argmax(-1)
    assert torch.equal(choose(Balanced(iterations=iterations), codebook, z), expected)
    assert (expected != squares.argmin(-1)).any()


def test_the_scale_of_the_data_does_not_matter_for_balance():
    codebook, z = book(), uneven(500)
    first = choose(Balanced(), codebook, z)
    scaled = Codebook.from_entries(1e3 * codebook.entries.data + 10)
    assert torch.equal(choose(Balanced(), scaled, 1e3 * z + 10), first)


@RULES
@pytest.mark.parametrize("limit", [1, 100, 1000])
def test_the_size_of_chunks_does_not_matter(
    rule: Assignment, limit: int, monkeypatch: pytest.MonkeyPatch
):
    codebook, z = book(), uneven(300)
    whole = choose(rule, copy.deepcopy(codebook), z)
    monkeypatch.setattr(scores, "SCORES_PER_CHUNK", limit)
    assert torch.equal(choose(rule, codebook, z), whole)


@RULES
def test_nothing_of_the_size_of_vectors_times_entries_is_made(
    rule: Assignment, monkeypatch: pytest.MonkeyPatch
):
    def watched(z: Tensor, entries: Tensor) -> Iterator[tuple[slice, Tensor]]:
        for rows, some in chunks(z, entries):  # inside an operator, where the mode sees nothing
            watch.largest = max(watch.largest, some.numel())
            yield rows, some

    chunks = scores.scores_in_chunks
    monkeypatch.setattr(scores, "SCORES_PER_CHUNK", 2**14)
    monkeypatch.setattr(scores, "scores_in_chunks", watched)
    with Watch() as watch:
        choose(rule, book(500), torch.randn(1000, 4).double())
    assert 2**13 < watch.largest <= 2**14


@RULES
def test_no_vectors_at_all_are_given_no_entries(rule: Assignment):
    assert choose(rule, book(), torch.zeros(0, 4).double()).shape == (0,)


def test_what_makes_no_sense_is_refused():
    for wrong in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="temperature"):
            Sampled(temperature=wrong)
        with pytest.raises(ValueError, match="softness"):
            Balanced(softness=wrong)
    with pytest.raises(ValueError, match="iterations"):
        Balanced(iterations=0)


def test_a_rule_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"assignment is 'sampled'; give Nearest\(\), Sampled"):
        VectorQuantizer(4, 8, assignment="sampled")  # pyright: ignore


@pytest.mark.parametrize("size", [1.0, 1e10])
def test_near_temperature_0_the_nearest_entry_is_drawn_however_long_vectors_are(size: float):
    codebook = Codebook.from_entries(size * torch.randn(16, 4))
    z = size * torch.randn(500, 4)
    assert torch.equal(choose(Sampled(temperature=1e-30), codebook, z), codebook.nearest(z))
