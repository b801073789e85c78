"""What must hold for the prior of context counts in particular."""

import itertools
import math
from collections import Counter
from pathlib import Path

import pytest
import torch
from tests.priors.spaces import CLASSES, make, random_codes
from torch import Tensor, multiprocessing
from torch import distributed as dist
from torch.testing import assert_close

from vqkit import storage
from vqkit.codes import Codes, LevelSpec
from vqkit.priors import Conditioning, ConditioningSpec, NGramConfig, NGramPrior, Prior, backoff
from vqkit.priors.backoff import STRENGTHS, BackoffCounts, largest_that_fits
from vqkit.priors.contexts import contexts_of, offsets

PLANE = (LevelSpec((3, 3), (3,)),)
LEVELS = (LevelSpec((1, 2), (3,)), LevelSpec((2, 4), (2, 4), "residual"))


def counted(
    specs: tuple[LevelSpec, ...], codes: Codes, labels: torch.Tensor | None = None, **options
) -> NGramPrior:
    told = ConditioningSpec(num_classes=None if labels is None else CLASSES)
    prior = NGramConfig(**options).build(specs, told)
    prior.start_counting()
    prior.count(codes, Conditioning(labels))
    prior.end_counting()
    return prior


def markov(num: int, length: int, matrix: torch.Tensor) -> torch.Tensor:
    """Chains that begin anywhere. (num, length) int64"""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(len(matrix), (num,), generator=generator)]
    for _ in range(length - 1):
        rows.append(torch.multinomial(matrix[rows[-1]], 1, generator=generator).squeeze(1))
    return torch.stack(rows, dim=1)


def symbols_by_hand(row: list[int], mask: list[bool], before: list[int], sizes: tuple[int, ...]):
    return tuple(
        row[slot] if slot >= 0 and mask[slot] else size
        for slot, size in zip(before, sizes, strict=True)
    )


def nats_by_hand(
    prior: NGramPrior, seen: Codes, asked: Codes, labels: list[int], asked_labels: list[int]
) -> list[float]:
    """Dictionaries and loops, from the contexts and the strengths of the prior."""
    known = prior.num_classes is not None
    totals = [0.0] * len(asked)
    masks = seen.flat_mask()
    masks = torch.ones_like(seen.flat(), dtype=torch.bool) if masks is None else masks
    for contexts, book in zip(prior.contexts, prior.books, strict=True):
        size, strengths, order = contexts.slots.size, book.strengths.tolist(), book.order.tolist()
        tables: list[Counter] = [Counter() for _ in range(len(strengths) + 1)]
        places = list(enumerate(contexts.slots.places))
        rows = seen.flat().tolist(), masks.tolist(), labels
        for row, mask, label in zip(*rows, strict=True):
            for place, slot in places:
                if mask[slot]:
                    told = symbols_by_hand(
                        row, mask, contexts.before[place].tolist(), contexts.sizes
                    )
                    told = ((place,) if prior.per_place else ()) + told + ((label,) * known)
                    told = tuple(told[symbol] for symbol in order)
                    for length, table in enumerate(tables):
                        table[(told[:length], row[slot])] += 1
        for item, (row, label) in enumerate(zip(asked.flat().tolist(), asked_labels, strict=True)):
            for place, slot in places:
                told = symbols_by_hand(
                    row, [True] * len(row), contexts.before[place].tolist(), contexts.sizes
                )
                told = ((place,) if prior.per_place else ()) + told + ((label,) * known)
                told = tuple(told[symbol] for symbol in order)
                p = 0.0
                for length, table in enumerate(tables):
                    total = sum(table[(told[:length], x)] for x in range(size))
                    found = table[(told[:length], row[slot])]
                    if length == 0:
                        p = (found + 1) / (total + size)
                    else:
                        s = strengths[length - 1]
                        p = (found + s * p) / (total + s)
                totals[item] += math.log(p)
    return totals


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("per_place", [True, False])
@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("specs", [PLANE, LEVELS], ids=["plane", "levels"])
def test_probabilities_are_those_of_dictionaries(
    specs: tuple[LevelSpec, ...], masked: bool, per_place: bool, labelled: bool
):
    torch.manual_seed(0)
    seen, asked = random_codes(specs, 40, masked=masked), random_codes(specs, 5)
    labels, asked_labels = torch.arange(40) % CLASSES, torch.tensor([2, 0, 0, 1, 2])
    prior = counted(specs, seen, labels if labelled else None, order=3, per_place=per_place)
    by_hand = nats_by_hand(prior, seen, asked, labels.tolist(), asked_labels.tolist())
    expected = torch.tensor(by_hand, dtype=torch.float64)
    found = prior.log_prob(asked, Conditioning(asked_labels) if labelled else None)
    assert_close(found, expected)


def test_labels_that_tell_the_codes_are_heard_and_have_to_be_given():
    labels = torch.arange(60) % CLASSES
    codes = Codes.from_flat(labels.view(-1, 1).expand(-1, 9), PLANE)
    prior = counted(PLANE, codes, labels, order=1)
    drawn = prior.sample(60, Conditioning(labels), seed=0).flat()
    assert (drawn == labels.view(-1, 1)).double().mean() > 0.9
    with pytest.raises(ValueError, match="labels are missing; give one of 0 to 2"):
        prior.sample(1, seed=0)
    with pytest.raises(ValueError, match="labels are missing"):
        prior.count(codes)
    with pytest.raises(ValueError, match=r"guidance is 2\.0.*it; leave it at 1"):
        prior.sample(60, Conditioning(labels), seed=0, guidance=2.0)


def test_a_label_stands_where_it_makes_the_codes_most_probable(tmp_path: Path):
    """Before all codes where they only repeat it, behind them where it tells nothing."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(300) % CLASSES
    noise = torch.randint(3, (300, 9), generator=generator)
    telling = torch.where(torch.rand(300, 9, generator=generator) < 0.5, labels.view(-1, 1), noise)
    chains = markov(300, 9, torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.9, 0.1], [0.1, 0.0, 0.9]]))
    places = {}
    for name, flat in (("telling", telling), ("chains", chains)):
        codes = Codes.from_flat(flat, PLANE)
        prior = counted(PLANE, codes, labels, order=3, per_place=False)
        book = prior.books[0]
        assert isinstance(book, BackoffCounts)
        places[name] = book.order.tolist().index(3)
        costs = []
        for place in range(4):
            order = [0, 1, 2]
            order.insert(place, 3)
            told = prior._told(prior.contexts[0], labels, flat, None).flatten(0, 1)
            other = BackoffCounts(book.size, [book.symbols[symbol] for symbol in order])
            other.start()
            other.add(told[:, order], flat.flatten())
            other.end()
            costs.append(other.choose_strengths())
        assert costs.index(min(costs)) == places[name]
        prior.save_pretrained(tmp_path / name)
        again, given = Prior.from_pretrained(tmp_path / name), Conditioning(labels)
        assert torch.equal(again.log_prob(codes, given), prior.log_prob(codes, given))
    assert places["telling"] == 0
    assert places["chains"] > 0


def test_places_before_come_by_their_distance_those_to_the_left_first():
    assert offsets((9,), 3) == [(-1,), (-2,), (-3,)]
    assert offsets((9, 9), 6) == [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)]
    assert offsets((9, 1), 2) == [(-1, 0), (-2, 0)]
    assert offsets((), 2) == []


@pytest.mark.parametrize("grid", [(7,), (3, 4), (2, 3, 3), (1, 5)], ids=str)
def test_the_nearest_places_are_those_of_all_places(grid: tuple[int, ...]):
    steps = itertools.product(*(range(-length + 1, length) for length in grid))
    before = [step for step in steps if step < tuple(0 for _ in grid)]
    before.sort(key=lambda s: (sum(o * o for o in s), [abs(o) for o in s], s))
    for num in range(len(before) + 2):
        assert offsets(grid, num) == before[:num]


def test_a_context_begins_with_the_coarser_code_and_the_codebooks_before():
    first, second = contexts_of(LEVELS, 4)[1:]
    assert first.sizes == (3, 2, 2, 2)
    assert second.sizes == (3, 2, 4, 4)
    # Position (1, 2) of 2 x 4 has slots 2 + 2 * 6 and 15; (0, 1) of 1 x 2 lies over it.
    assert first.before[6].tolist() == [1, 12, 6, 4]
    assert second.before[6].tolist() == [1, 14, 13, 7]
    assert first.before[0].tolist() == [0, -1, -1, -1]


def test_order_0_of_all_places_is_the_smoothed_histogram_of_the_codebook():
    torch.manual_seed(0)
    codes = random_codes(LEVELS, 30, masked=True)
    prior = counted(LEVELS, codes, order=0, per_place=False)
    asked = random_codes(LEVELS, 4)
    expected = torch.zeros(4, dtype=torch.float64)
    for slots in prior.slots:
        real = codes.flat()[:, slots.where][codes.flat_mask()[:, slots.where]]
        p = (torch.bincount(real, minlength=slots.size) + 1).double() / (len(real) + slots.size)
        expected += p.log()[asked.flat()[:, slots.where]].sum(1)
    assert_close(prior.log_prob(asked), expected)


def test_before_anything_is_counted_it_is_uniform():
    codes = random_codes(LEVELS, 3)
    prior = NGramConfig(order=2).build(LEVELS)
    expected = torch.full((3,), -float(prior.slot_sizes.double().log().sum())).double()
    assert_close(prior.log_prob(codes), expected)
    prior = counted(LEVELS, codes[:0], order=2)
    assert_close(prior.log_prob(codes), expected)


@pytest.mark.parametrize("per_place", [True, False])
def test_the_entropy_of_a_markov_chain_is_reached(per_place: bool):
    matrix = torch.tensor([[0.8, 0.1, 0.1], [0.05, 0.05, 0.9], [0.3, 0.6, 0.1]]).double()
    specs = (LevelSpec((12,), (3,)),)
    rows = markov(20_000, 12, matrix)
    train, held_out = (Codes.from_flat(part, specs) for part in rows.split(10_000))
    exact = math.log(1 / 3) + matrix.log()[rows[10_000:, :-1], rows[10_000:, 1:]].sum(1)
    found = [
        float(counted(specs, train, order=order, per_place=per_place).log_prob(held_out).mean())
        for order in (0, 1, 2)
    ]
    assert found[1] == pytest.approx(float(exact.mean()), abs=0.02)
    assert found[2] == pytest.approx(float(exact.mean()), abs=0.05)
    assert found[0] < found[1] - 1


def left_out(context: torch.Tensor, integers: torch.Tensor, strengths: list[float]) -> float:
    """The log-probability of integers, each by the counts of all others, in loops."""
    total, rows = 0.0, context.tolist()
    for i, told in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        p = (sum(int(integers[j] == integers[i]) for j in others) + 1) / (len(others) + 3)
        for length, strength in enumerate(strengths, start=1):
            same = [j for j in others if rows[j][:length] == told[:length]]
            hits = sum(int(integers[j] == integers[i]) for j in same)
            p = (hits + strength * p) / (len(same) + strength)
        total += math.log(p)
    return total


def test_strengths_are_those_under_which_each_is_most_probable_by_all_others():
    torch.manual_seed(0)
    context = torch.randint(4, (60, 2))
    integers = torch.randint(3, (60,))  # the first symbol says nothing, the second a little
    integers = torch.where(torch.rand(60) < 0.4, context.sum(1) % 3, integers)
    book = BackoffCounts(3, [4, 4])
    book.add(context, integers)
    book.end()
    first = max(STRENGTHS, key=lambda s: left_out(context, integers, [s]))
    second = max(STRENGTHS, key=lambda s: left_out(context, integers, [first, s]))
    assert book.strengths.tolist() == [first, second]
    assert second != max(STRENGTHS, key=lambda s: left_out(context, integers, [STRENGTHS[0], s]))


def test_counts_in_parts_are_those_of_the_whole():
    torch.manual_seed(0)
    codes = random_codes(LEVELS, 30, masked=True)
    whole = counted(LEVELS, codes, order=2)
    parts = NGramConfig(order=2).build(LEVELS)
    for _ in range(2):  # counted anew is not counted twice
        parts.start_counting()
        for items in (slice(17, 30), slice(0, 0), slice(0, 17)):
            parts.count(codes[items])
        parts.end_counting()
        assert_close(dict(parts.state_dict()), dict(whole.state_dict()), rtol=0, atol=0)


def test_many_integers_wait_in_little_memory(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("vqkit.priors.backoff.ROOM", 50)
    specs = (LevelSpec((4,), (2,)),)
    prior = NGramConfig(order=1).build(specs)
    prior.start_counting()
    for _ in range(100):
        prior.count(random_codes(specs, 10))
    book = prior.books[0]
    assert isinstance(book, BackoffCounts)
    assert sum(len(keys) for keys, _ in book.waiting) <= 50 + 40
    prior.end_counting()
    assert int(book.deepest.counts.sum()) == 4000


def test_what_was_sorted_is_not_sorted_again_at_each_turn(monkeypatch: pytest.MonkeyPatch):
    """However many unlike keys there are, sorting all of them takes a time that grows with them."""
    sorted_in_all, original = [], backoff.merged

    def merged(keys: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        sorted_in_all.append(len(keys))
        return original(keys, counts)

    monkeypatch.setattr(backoff, "ROOM", 50)
    monkeypatch.setattr(backoff, "merged", merged)
    book = BackoffCounts(1000, [1000])
    contexts = torch.arange(3000).view(300, 10, 1) % 1000
    for number, rows in enumerate(contexts):
        book.add(rows, torch.full((10,), number))
    assert sum(sorted_in_all) <= 3 * 3000
    book.end()
    assert int(book.deepest.counts.sum()) == 3000


def test_keys_beyond_32_bits_are_exact():
    """Two contexts whose keys are alike in their low 32 bits are apart."""
    size = 2**16
    specs = (LevelSpec((3,), (size,)),)
    rows = torch.tensor([[0, 1, 5], [2**14, 1, 6]] * 50)
    prior = counted(specs, Codes.from_flat(rows, specs), order=2, per_place=False)
    last = prior.nats(Codes.from_flat(rows[:2], specs))[:, 2].exp().reciprocal()
    assert (last > 0.9).all()
    assert int(prior.books[0].deepest.keys.max()) > 2**33


@pytest.mark.parametrize(("size", "places", "largest"), [(2**9, 2, 5), (2**16, 2, 2)])
def test_the_largest_order_that_fits_is_named(size: int, places: int, largest: int):
    specs = (LevelSpec((places, 9), (size,)),)
    with pytest.raises(ValueError, match=f"give an order of at most {largest}") as caught:
        NGramConfig(order=8).build(specs)
    assert "\n" not in str(caught.value)
    prior = NGramConfig(order=largest).build(specs)
    symbols = [places * 9, *[size + 1] * (largest + 1)]
    assert largest_that_fits(size, symbols) == largest + 1
    flat = torch.full((2, places * 9), size - 1)
    prior.count(Codes.from_flat(flat, specs))
    prior.end_counting()  # the largest keys are counted without overflow
    assert (prior.books[0].deepest.keys >= 0).all()
    assert prior.log_prob(Codes.from_flat(flat, specs)).isfinite().all()


def test_priors_of_other_sizes_of_counts_load_into_one_another(tmp_path: Path):
    torch.manual_seed(0)
    for num in (3, 40, 0):
        prior = counted(LEVELS, random_codes(LEVELS, num), order=2)
        prior.save_pretrained(tmp_path)
        again = Prior.from_pretrained(tmp_path)
        asked = random_codes(LEVELS, 5)
        assert torch.equal(again.log_prob(asked), prior.log_prob(asked))
        assert torch.equal(again.sample(5, seed=1).flat(), prior.sample(5, seed=1).flat())


def count_share(rank: int, folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    torch.manual_seed(0)
    codes = random_codes(LEVELS, 9, masked=True)
    prior = counted(LEVELS, codes[:0] if rank == 0 else codes, order=2)
    torch.save(prior.state_dict(), folder / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_processes_count_what_one_counts_though_one_has_nothing(tmp_path: Path):
    multiprocessing.spawn(count_share, (tmp_path,), nprocs=2)
    torch.manual_seed(0)
    prior = counted(LEVELS, random_codes(LEVELS, 9, masked=True), order=2)
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert_close(found, dict(prior.state_dict()), rtol=0, atol=0)


def test_counts_of_other_codebooks_or_grids_are_not_opened(tmp_path: Path):
    specs = (LevelSpec((2, 2), (5,)),)
    make(NGramConfig(order=2), specs).save_pretrained(tmp_path)
    path = tmp_path / storage.CONFIG
    saved = storage.read_json(path)
    for spec in ({"grid": [2, 2], "codebook_sizes": [7]}, {"grid": [2, 3], "codebook_sizes": [5]}):
        storage.write_json(path, saved | {"specs": [{**saved["specs"][0], **spec}]})
        with pytest.raises(ValueError, match="does not fit the model"):
            Prior.from_pretrained(tmp_path)
