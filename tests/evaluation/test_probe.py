"""What must hold for a probe: its features, its classifier, its figures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array
from scipy.stats import binomtest
from tests.tokens.models import images, tokenizer

from vqkit.codes import Level
from vqkit.data import TensorExamples, in_order
from vqkit.evaluation import probe
from vqkit.evaluation.information import Uses
from vqkit.evaluation.probe import Accuracy, books, judge, kept_apart, predicted, wilson
from vqkit.evaluation.probe_features import (
    MOST_VALUES,
    histograms,
    in_parts,
    means,
    pool,
    probe_items,
    raw_input,
)
from vqkit.tokens.vectors import LevelVectors


def striped(num: int, seed: int, *, names: tuple[str, ...] = ("across", "down")) -> TensorExamples:
    """Images (1, 8, 12) of stripes in two directions, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    rows = (torch.arange(8) // 2 % 2).reshape(1, 8, 1).expand(1, 8, 12)
    columns = (torch.arange(12) // 2 % 2).reshape(1, 1, 12).expand(1, 8, 12)
    items = []
    for i in range(num):
        noise = torch.randint(-20, 20, (1, 8, 12), generator=generator)
        items.append(((60 + 120 * (columns if i % 2 else rows) + noise).to(torch.uint8), i % 2))
    return TensorExamples(items, labels=names)


@pytest.mark.parametrize(("hits", "num"), [(0, 10), (10, 10), (3, 10), (171, 180), (1, 2)])
def test_the_interval_is_wilsons(hits: int, num: int):
    expected = binomtest(hits, num).proportion_ci(method="wilson")
    assert wilson(hits, num) == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("ragged", [False, True])
def test_mean_vectors_and_histograms_are_those_of_each_item_alone(ragged: bool):
    model, items = tokenizer(sizes=(16,)), images(12, ragged=ragged)
    found = probe_items(model, items, range(12), batch_size=5)
    roots, again = histograms(books(found.uses), books(found.uses))
    np.testing.assert_array_equal(roots.toarray(), again.toarray())
    shares = roots.toarray() ** 2
    order = [i for start in (0, 5, 10) for i in by_size_order(items, start)]
    entries = sorted({int(i) for k in range(12) for i in codes_of(model, items, k)})
    for place, number in enumerate(order):
        x = items.example(number).x.unsqueeze(0)
        z_e, _ = model.inputs(x)
        indices = model.encode(x).levels[0].indices
        z_q = model.quantizers[0].decode(indices)
        assert found.labels[place] == items.example(number).label
        for name, vectors in (("z_e", z_e), ("z_q", z_q)):
            expected = vectors.flatten(0, -2).mean(0)
            np.testing.assert_allclose(found.vectors[name][place], expected, atol=1e-6)
        counts = [int((indices == entry).sum()) for entry in entries]
        np.testing.assert_allclose(shares[place], np.array(counts) / indices.numel())


def by_size_order(items: TensorExamples, start: int) -> list[int]:
    """The items of a batch of five, those of one size together."""
    numbers = range(start, min(start + 5, len(items)))
    sizes = dict.fromkeys(items.example(i).x.shape for i in numbers)
    return [i for size in sizes for i in numbers if items.example(i).x.shape == size]


def codes_of(model, items: TensorExamples, number: int) -> torch.Tensor:
    return model.encode(items.example(number).x.unsqueeze(0)).flat()[0]


def test_each_part_of_an_item_has_the_mean_of_the_vectors_in_it():
    model, items = tokenizer(sizes=(16, 300)), images(8)
    found = probe_items(model, items, range(8), batch_size=8).vectors["z_q_in_place"]
    coarse, fine = found.reshape(8, 2, 4, 4, 4).swapaxes(0, 1)
    x = next(in_order(items, 8)).x
    for number, got in enumerate((coarse, fine)):
        indices = model.encode(x).levels[number].indices
        z_q = model.quantizers[number].decode(indices).numpy()
        sides = [
            [slice(k * n // 4, -(-(k + 1) * n // 4)) for k in range(4)] for n in z_q.shape[1:3]
        ]
        for i, j in np.ndindex(4, 4):
            expected = z_q[:, sides[0][i], sides[1][j]].mean((1, 2))
            np.testing.assert_allclose(got[:, :, i, j], expected, atol=1e-6)


def test_positions_that_are_not_real_have_no_part_in_a_mean():
    generator = torch.Generator().manual_seed(0)
    vectors, mask = torch.randn(5, 3, 4, 2, generator=generator), torch.zeros(5, 3, 4).bool()
    for item in range(5):
        mask[item, : item % 3 + 1, :item] = True
    codes = Level(torch.zeros(5, 3, 4, 1, dtype=torch.int64), (9,), mask=mask)
    found = means(LevelVectors(vectors, vectors, mask, codes), "z_e", 1)
    assert not found[0].any()  # nothing of it is real
    for item in range(1, 5):
        torch.testing.assert_close(found[item], vectors[item][mask[item]].mean(0))


def test_items_of_one_size_are_kept_whole_and_others_pooled_to_a_fixed_number():
    model = tokenizer()
    alike, unlike = (probe_items(model, images(6, ragged=r), range(6)) for r in (False, True))
    assert alike.whole is not None
    np.testing.assert_array_equal(alike.whole[3], images(6).example(3).x.flatten())
    assert unlike.whole is None
    assert unlike.pooled.shape[1] == 55**2 <= MOST_VALUES
    first, second = raw_input(alike, unlike)
    assert first.shape[1] == second.shape[1]
    assert raw_input(alike, alike)[0] is alike.whole


@pytest.mark.parametrize("shape", [(2, 1, 7), (2, 3, 9, 40), (2, 3, 1, 5, 6)])
def test_pooling_gives_as_many_values_whatever_the_size(shape: tuple[int, ...]):
    x = torch.rand(shape)
    found = pool(x, 64)
    side = {1: 64, 2: 8, 3: 4}[len(shape) - 2]
    assert found.shape == (*shape[:2], *[side] * (len(shape) - 2))
    constant = pool(torch.full(shape, 0.25), 64)
    assert torch.equal(constant, torch.full_like(constant, 0.25))


def test_a_modality_may_say_what_its_raw_features_are(monkeypatch: pytest.MonkeyPatch):
    model = tokenizer()
    kind = model.objective.modality
    own = SimpleNamespace(raw_features=lambda x, mask: x.float().flatten(1)[:, :3])
    monkeypatch.setattr(type(model.objective), "modality", own)
    found = probe_items(model, images(6, ragged=True), range(6))
    monkeypatch.setattr(type(model.objective), "modality", kind)
    assert found.whole is not None
    assert found.whole.shape == (6, 3)


def test_the_most_used_entries_are_features_where_there_are_too_many(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("vqkit.evaluation.probe_features.MOST_ENTRIES", 3)
    found = probe_items(tokenizer(), images(12), range(12))
    roots, _ = histograms(books(found.uses), books(found.uses))
    shares, counts = roots.toarray() ** 2, np.zeros(16)
    np.add.at(counts, found.uses[0][0].entries, found.uses[0][0].counts)
    best = np.sort(np.argsort(-counts, kind="stable")[:3])
    assert shares.shape == (12, 3)
    assert (shares.sum(0) * 6).round().tolist() == counts[best].tolist()  # 2 x 3 codes an item


@pytest.mark.parametrize("grid", [(9,), (3, 5), (2, 3, 4), (1,), (2, 2, 2, 2)])
def test_uses_in_parts_are_those_of_each_part_alone(grid: tuple[int, ...]):
    torch.manual_seed(0)
    level = Level(torch.randint(5, (6, *grid, 2)), (5, 7), "residual")
    num = {1: 4, 2: 2, 3: 2}.get(len(grid), 1)
    placed = in_parts(level)
    assert placed.codebook_sizes == (5 * num ** len(grid), 7 * num ** len(grid))
    for q, size in enumerate(level.codebook_sizes):
        found = np.zeros((6, placed.codebook_sizes[q]), dtype=int)
        uses = Uses.of(placed, q)
        found[uses.items, uses.entries] = uses.counts
        expected = np.zeros_like(found)
        for item in range(6):
            for place in np.ndindex(grid):
                part = 0
                for at, length in zip(place, grid, strict=True):
                    part = part * num + at * num // length
                expected[item, part * size + int(level.indices[(item, *place, q)])] += 1
        np.testing.assert_array_equal(found, expected)


def test_sparse_features_are_judged_as_dense_ones():
    """What is centred makes another bias and no other classes, where the optimum is reached."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    x = rng.poisson(0.3 + (np.arange(12) % 3 == labels[:, None]), size=(90, 12)).astype(float)
    dense = predicted(x[:60], labels[:60], x[60:], 0.1)
    np.testing.assert_array_equal(
        predicted(csr_array(x[:60]), labels[:60], csr_array(x[60:]), 0.1), dense
    )


def test_where_codes_stand_tells_what_a_histogram_of_the_whole_does_not():
    rng = np.random.default_rng(0)
    indices = np.stack([rng.permutation(8) for _ in range(80)])
    labels = (indices.argmax(1) >= 4).astype(int)  # in which half entry 7 stands
    level = Level(torch.from_numpy(indices).unsqueeze(-1), (8,))
    kept = kept_apart(labels[:60], rng)
    accuracies = []
    for each in (level, in_parts(level)):
        parts = (Level(some, each.codebook_sizes) for some in each.indices.split([60, 20]))
        uses = ([Uses.of(some, 0)] for some in parts)
        accuracies.append(judge(histograms(*uses), labels[:60], labels[60:], kept).accuracy)
    assert accuracies[0] < 0.8
    assert accuracies[1] == 1


def test_the_penalty_weighs_the_same_however_often_items_are_repeated():
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(60, 4)), np.arange(60) % 3
    x[:, 0] += labels
    once = predicted(x, labels, x, 0.1)
    often = predicted(np.tile(x, (5, 1)), np.tile(labels, 5), x, 0.1)
    np.testing.assert_array_equal(once, often)


def test_every_class_has_items_on_both_sides_of_the_choice():
    labels = np.repeat([0, 1, 2], [2, 3, 40])
    kept = kept_apart(labels, np.random.default_rng(0))
    assert np.bincount(labels[kept]).tolist() == [1, 1, 8]


def test_features_that_tell_the_class_are_learned_and_noise_is_not():
    rng = np.random.default_rng(0)
    labels, truth = np.arange(300) % 4, np.arange(200) % 4
    kept = kept_apart(labels, rng)
    told = [np.eye(4)[each] + 0.1 * rng.normal(size=(len(each), 4)) for each in (labels, truth)]
    assert judge((told[0], told[1]), labels, truth, kept).accuracy == 1
    noise = rng.normal(size=(300, 20)), rng.normal(size=(200, 20))
    found = judge(noise, labels, truth, kept)
    assert isinstance(found, Accuracy)
    assert found.interval[0] < 0.25 < found.interval[1]
    assert found.num_features == 20


def test_a_probe_tells_stripes_apart_by_their_codes_and_repeats_itself():
    model = tokenizer()
    train, held_out = striped(80, 0), striped(40, 1)
    found = probe(model, train, held_out, batch_size=16)
    assert found["num_train"], found["num_held_out"] == (80, 40)
    assert found["majority_class"]["accuracy"] == 0.5
    names = ["histogram", "histogram_in_place", "z_q", "z_q_in_place", "z_e", "z_e_in_place"]
    names.append("input")
    assert list(found["features"]) == names
    assert found["features"]["histogram"]["accuracy"] > 0.9
    assert found["features"]["input"]["accuracy"] == 1
    (unit,) = found["units"]
    assert unit["num_positions"] == 120 * 6
    assert unit["size"] == 16
    assert probe(model, train, held_out, batch_size=16) == found


def test_at_most_so_many_items_are_learned_from_by_the_seed():
    model, items = tokenizer(), striped(80, 0)
    first, second = (probe(model, items, striped(20, 1), most=30, seed=s) for s in (0, 1))
    assert first["num_train"] == second["num_train"] == 30
    assert first["features"] != second["features"]


def test_data_that_cannot_be_probed_are_refused_in_one_line():
    model, good = tokenizer(), striped(20, 0)
    bare = TensorExamples(torch.zeros(4, 1, 8, 12, dtype=torch.uint8))
    with pytest.raises(ValueError, match="the images have no classes: put them into a folder"):
        probe(model, bare, bare)
    alone = TensorExamples([(good.example(i).x, 0) for i in range(4)], labels=("one",))
    with pytest.raises(ValueError, match="all items are of the class one; give"):
        probe(model, alone, alone)
    same = TensorExamples([(good.example(i).x, 1) for i in range(4)], labels=("a", "b"))
    with pytest.raises(ValueError, match="all items are of the class b; give"):
        probe(model, same, same)
    few = TensorExamples([(good.example(i).x, int(i == 3)) for i in range(6)], labels=("a", "b"))
    with pytest.raises(ValueError, match="class b has 1 item to learn from; give at least two"):
        probe(model, few, few)
    with pytest.raises(ValueError, match="class b has 0 items to learn from"):
        probe(model, same_but(same, 0), few)
    one = TensorExamples([(good.example(i).x, i // 4) for i in range(5)], labels=("a", "b"))
    with pytest.raises(ValueError, match=r"among the 2 of 5 that --most lets learn from; raise it"):
        probe(model, one, one, most=2)
    with pytest.raises(ValueError, match="have the classes across, down, those held out x, y"):
        probe(model, good, striped(6, 1, names=("x", "y")))


def same_but(items: TensorExamples, label: int) -> TensorExamples:
    return TensorExamples([(items.example(i).x, label) for i in range(4)], labels=items.labels)
