"""What must hold for the mixture of Gaussians over the vectors of entries in particular."""

import math
import sys
from pathlib import Path

import pytest
import torch
from tests.priors.spaces import every_code, random_codes
from torch import Tensor, multiprocessing
from torch import distributed as dist
from torch.testing import assert_close

from vqkit.codes import Codes, Level, LevelSpec
from vqkit.priors import HistogramPrior, MixtureConfig, MixturePrior, Prior, mixture
from vqkit.priors.chosen import Chosen
from vqkit.priors.gaussians import Gaussians, fit_gaussians, snapped_counts
from vqkit.priors.mixture import SHARES
from vqkit.random import hash_int

SPECS = (LevelSpec((2,), (5,)),)
TABLES = [torch.randn(5, 3, generator=torch.Generator().manual_seed(1))]
LEVELS = (LevelSpec((1,), (3,)), LevelSpec((1, 2), (2, 3), "product"))


def counted(codes: Codes, config: MixtureConfig, tables: list[torch.Tensor] = TABLES):
    prior = config.build(codes.specs)
    prior.embed(tables)
    prior.start_counting()
    prior.count(codes)
    prior.end_counting()
    return prior


def rows(*items: list[int], specs: tuple[LevelSpec, ...] = SPECS, times: int = 1) -> Codes:
    return Codes.from_flat(torch.tensor(list(items)).repeat(times, 1), specs)


def cell_masses(mean: list[float], deviation: list[float], entries: torch.Tensor) -> torch.Tensor:
    """The mass of a Gaussian in each nearest-entry cell, by a fine grid in two dimensions."""
    steps = torch.linspace(-6, 6, 1201, dtype=torch.float64)
    density = torch.exp(-steps.square() / 2)
    density = density / density.sum()
    points = torch.cartesian_prod(mean[0] + deviation[0] * steps, mean[1] + deviation[1] * steps)
    weights = (density[:, None] * density).flatten()
    nearest = torch.cdist(points, entries.double()).argmin(1)
    return torch.zeros(len(entries), dtype=torch.float64).index_add_(0, nearest, weights)


def test_snapped_draws_come_as_often_as_the_cells_have_mass():
    entries = torch.tensor([[0.0, 0.0], [1.0, 0.2], [-0.5, 2.0], [3.0, 3.0], [0.3, 0.9]]) + 50
    means = torch.tensor([[50.2, 50.1], [52.0, 51.0]]).double()
    deviations = torch.tensor([[0.7, 1.5], [1.0, 0.2]]).double()
    draws = 40_000
    counts = snapped_counts(means, deviations, entries, draws, seed=0)
    assert counts.sum(1).tolist() == [draws] * 2
    for mean, deviation, found in zip(means, deviations, counts, strict=True):
        p = cell_masses(mean.tolist(), deviation.tolist(), entries)
        spread = (p * (1 - p) / draws).sqrt()
        assert ((found / draws - p).abs() < 5 * spread + 1e-3).all()


def test_draws_in_parts_are_those_at_once(monkeypatch: pytest.MonkeyPatch):
    means, deviations = torch.zeros(2, 3).double(), torch.ones(2, 3).double()
    whole = snapped_counts(means, deviations, TABLES[0], 100, seed=3)
    monkeypatch.setattr("vqkit.priors.gaussians.CHUNK", 5 * 7)
    assert torch.equal(snapped_counts(means, deviations, TABLES[0], 100, seed=3), whole)


def test_gaussians_without_width_give_the_entry_they_lie_on():
    counts = snapped_counts(TABLES[0].double(), torch.zeros(5, 3).double(), TABLES[0], 20, seed=0)
    assert torch.equal(counts, 20 * torch.eye(5, dtype=torch.int64))


def test_fitted_gaussians_are_those_that_the_vectors_were_drawn_from():
    generator = torch.Generator().manual_seed(0)
    kind = torch.rand(4000, generator=generator) < 0.25
    means, deviations = (
        torch.tensor([[0.0, 5.0], [8.0, 0.0]]),
        torch.tensor([[1.0, 0.5], [2.0, 1.0]]),
    )
    noise = torch.randn(4000, 2, generator=generator)
    found = fit_gaussians(means[kind.long()] + deviations[kind.long()] * noise, 2, seed=0)
    order = found.means[:, 0].argsort()
    assert_close(found.weights[order], torch.tensor([0.75, 0.25]).double(), atol=0.03, rtol=0)
    assert_close(found.means[order], means.double(), atol=0.2, rtol=0)
    assert_close(found.deviations[order], deviations.double(), atol=0.15, rtol=0)


def test_one_component_of_one_kind_of_items_gives_that_item():
    """Tiny variances: all draws are the entries that were seen."""
    prior = counted(rows([1, 3], times=200), MixtureConfig(components=1))
    assert float(prior.log_prob(rows([1, 3])).exp()) > 0.99
    assert prior.sample(20, seed=0).flat().tolist() == [[1, 3]] * 20


def test_kinds_of_items_are_told_apart_where_the_histogram_mixes_them():
    seen = rows([0, 1], [4, 3], times=100)
    p = counted(seen, MixtureConfig(components=2)).log_prob(rows([0, 1], [4, 3], [0, 3])).exp()
    assert_close(p[:2], torch.tensor([0.5, 0.5]).double(), atol=0.02, rtol=0)
    assert p[2] < 0.01
    (one,) = counted(seen, MixtureConfig(components=1)).log_prob(rows([0, 1])).exp().tolist()
    assert one < 0.3


def test_known_codes_are_completed_with_their_exact_probabilities():
    """What is known comes last: enumeration says how probable each completion is."""
    specs = (LevelSpec((3,), (3,)),)
    torch.manual_seed(0)
    prior = counted(
        rows([0, 1, 2], [2, 0, 0], [1, 1, 0], specs=specs, times=30),
        MixtureConfig(components=3, draws=200),
        [torch.randn(3, 2)],
    )
    num, all_codes = 20_000, every_code(specs)
    mask = torch.tensor([False, True, True]).expand(num, -1)
    known = Codes((Level(torch.tensor([9, 1, 2]).expand(num, -1).unsqueeze(-1), (3,), mask=mask),))
    drawn = prior.sample(num, seed=0, known=known).flat()
    assert (drawn[:, 1:] == torch.tensor([1, 2])).all()
    fits = (all_codes.flat()[:, 1:] == torch.tensor([1, 2])).all(1)
    p = prior.log_prob(all_codes)[fits].softmax(0)
    found = torch.bincount(drawn[:, 0], minlength=3) / num
    assert ((found - p).abs() < 5 * (p * (1 - p) / num).sqrt() + 1e-9).all()
    assert float(p.max()) > 0.8  # so the later codes do say something


def test_the_share_of_the_histogram_is_the_best_for_items_that_nothing_else_was_made_of(
    monkeypatch: pytest.MonkeyPatch,
):
    fitted, chosen_by = [], []
    fit, choose = mixture.fit_gaussians, MixturePrior._choose_share

    def fit_gaussians(vectors: Tensor, *rest: int) -> Gaussians:
        fitted.append(len(vectors))
        return fit(vectors, *rest)

    def choose_share(self: MixturePrior, items: Tensor) -> None:
        chosen_by.append(items)
        choose(self, items)

    monkeypatch.setattr(mixture, "fit_gaussians", fit_gaussians)
    monkeypatch.setattr(MixturePrior, "_choose_share", choose_share)
    torch.manual_seed(0)
    codes = random_codes(LEVELS, 60, masked=True)
    tables = [torch.randn(size, 2) for size in (3, 2, 3)]
    prior = counted(codes, MixtureConfig(components=3, draws=40), tables)
    chosen, costs, ((held,), before) = (
        float(prior.share),
        [],
        (chosen_by, prior.occurrences.clone()),
    )
    assert (len(held), fitted) == (6, [54])
    some = Codes.from_flat(held.clamp(min=0), codes.specs, held >= 0)
    prior.add(held, -1)
    for share in SHARES:
        prior.share.fill_(share)
        costs.append(-float(prior.log_prob(some).sum()))
    assert chosen == SHARES[costs.index(min(costs))]
    prior.add(held, 1)
    assert torch.equal(prior.occurrences, before)
    assert int(before.sum()) == int(codes.flat_mask().sum())


def test_with_fewer_items_than_gaussians_it_is_no_worse_than_the_histogram():
    """Each Gaussian has seen an item or two: what they know of these says nothing of others."""
    generator = torch.Generator().manual_seed(0)
    specs = (LevelSpec((12,), (6,)),)
    flat = torch.multinomial(
        torch.tensor([8.0, 4, 2, 1, 1, 1]), 12 * 540, True, generator=generator
    )
    codes = Codes.from_flat(flat.view(540, 12), specs)
    few, others = codes[:40], codes[40:]
    prior = counted(few, MixtureConfig(components=32), [torch.randn(6, 3, generator=generator)])
    plain = HistogramPrior(specs)
    plain.count(few)
    assert prior.log_prob(others).mean() > plain.log_prob(others).mean() - 0.1


@pytest.mark.parametrize("num", [0, 1, 2])
def test_fewer_items_than_components_are_enough(num: int):
    torch.manual_seed(0)
    prior = counted(random_codes(SPECS, num), MixtureConfig(components=4, draws=20))
    total = prior.log_prob(every_code(SPECS)).exp().sum()
    assert_close(total, torch.ones_like(total), atol=1e-12, rtol=0)


def test_the_items_chosen_do_not_depend_on_batches_and_are_those_of_the_least_hashes():
    data = torch.arange(40).unsqueeze(1)
    least = sorted(range(40), key=lambda number: hash_int(7, number))[:6]
    for size in (40, 9, 1):
        chosen = Chosen(6, 7)
        for part in data.split(size):
            chosen.add(part)
            assert sum(len(rows) for _, rows in chosen.kept) <= 12 + size
        assert chosen.rows().flatten().tolist() == sorted(least)


def test_counting_without_entries_names_the_fix():
    with pytest.raises(ValueError, match=r"no vectors of the entries; call prior\.embed"):
        MixtureConfig().build(SPECS).start_counting()


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ([], "there are 0 tables; give one for each of 1 codebooks"),
        ([torch.zeros(4, 3)], r"table 0 has shape \(4, 3\); give \(5, D\)"),
        ([torch.full((5, 3), math.nan)], "table 0 has numbers that are not finite"),
    ],
)
def test_tables_that_do_not_fit_are_refused(tables: list[torch.Tensor], message: str):
    with pytest.raises(ValueError, match=message):
        MixtureConfig().build(SPECS).embed(tables)


def test_absurd_sizes_are_refused_with_what_fits():
    large = (LevelSpec((32, 32), (2**14,)),)
    with pytest.raises(ValueError, match=r"components is 64, .* give at most 16"):
        MixtureConfig(components=64).build(large)
    prior = MixtureConfig(components=1).build((LevelSpec((64, 64), (2,)),))
    with pytest.raises(ValueError, match=r"max_items is 10000, .* give at most 1024"):
        prior.embed([torch.zeros(2, 64)])


def test_without_scikit_learn_the_way_to_get_it_is_named(monkeypatch: pytest.MonkeyPatch):
    prior = MixtureConfig().build(SPECS)
    prior.embed(TABLES)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(ImportError, match=r'pip install "vqkit\[mixture\]"'):
        prior.start_counting()


def test_a_saved_mixture_keeps_its_entries_and_can_be_counted_again(tmp_path: Path):
    torch.manual_seed(0)
    codes = random_codes(SPECS, 30)
    prior = counted(codes, MixtureConfig(components=2, draws=30))
    prior.save_pretrained(tmp_path)
    again = MixturePrior.from_pretrained(tmp_path)
    assert [table.tolist() for table, _ in again.entries] == [TABLES[0].tolist()]
    again.start_counting()
    again.count(codes)
    again.end_counting()
    assert_close(dict(again.state_dict()), dict(prior.state_dict()), rtol=0, atol=0)
    unseen = MixtureConfig(components=2).build(SPECS)  # without entries it is saved, too
    unseen.save_pretrained(tmp_path)
    assert_close(Prior.from_pretrained(tmp_path).log_prob(codes), unseen.log_prob(codes))


def count_share(rank: int, folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    codes = random_codes(SPECS, 21)
    prior = MixtureConfig(components=2, draws=30, max_items=8).build(SPECS)
    prior.embed(TABLES)
    prior.start_counting()
    for first in range(0, 24, 6):  # ranks take turns; the last batch of rank 1 is empty
        prior.count(codes[first + 3 * rank : first + 3 * rank + 3])
    prior.end_counting()
    torch.save(prior.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_fit_what_one_fits(tmp_path: Path):
    multiprocessing.spawn(count_share, (tmp_path,), nprocs=2)
    torch.manual_seed(0)
    alone = counted(random_codes(SPECS, 21), MixtureConfig(components=2, draws=30, max_items=8))
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close(found, dict(alone.state_dict()), rtol=0, atol=1e-9)
