"""Semantic IDs: unique, of stable codes and suffixes, and as tables."""

import csv
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from sklearn.metrics.cluster import contingency_matrix
from torch import Tensor

from vqkit.tokens import SemanticIDs
from vqkit.tokens.prefixes import collision_rate, prefix_groups, purity

SIZES = (3, 4)


def codes(num: int = 30, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.stack([torch.randint(size, (num,), generator=generator) for size in SIZES], 1)


def names(num: int = 30, first: int = 0) -> list[str]:
    return [f"item {number}" for number in range(first, first + num)]


def made(num: int = 30, **options) -> SemanticIDs:
    return SemanticIDs.of(names(num), codes(30)[:num], SIZES, **options)


def test_ids_are_the_codes_and_all_differ():
    ids = made()
    assert torch.equal(ids.ids[:, :2], codes())
    assert len(set(map(tuple, ids.ids.tolist()))) == 30


def test_the_suffix_counts_the_items_before_with_the_same_codes():
    seen: Counter[tuple] = Counter()
    expected = []
    for row in map(tuple, codes().tolist()):
        expected.append(seen[row])
        seen[row] += 1
    assert made().suffixes.tolist() == expected
    assert made().level_sizes == (3, 4, max(expected) + 1)


def test_items_that_are_added_change_no_id_wherever_they_stand():
    old = made(20)
    both = SemanticIDs.of(names(30)[::-1], codes().flip(0), SIZES)
    grown = old.extended(both)
    assert grown.names[:20] == old.names
    assert torch.equal(grown.ids[:20], old.ids)
    assert set(grown.names) == set(names())
    assert len(set(map(tuple, grown.ids.tolist()))) == 30
    again = grown.extended(both)
    assert again.names == grown.names
    assert torch.equal(again.ids, grown.ids)


def test_an_item_keeps_its_id_when_its_codes_change_or_it_is_gone():
    old = made(20)
    moved = SemanticIDs.of(names(10), codes(10, seed=5), SIZES)
    assert torch.equal(old.extended(moved).ids, old.ids)


@pytest.mark.parametrize(("old", "new"), [(["u"] * 20, None), (None, ["v"] * 30)])
def test_labels_stay_where_only_some_items_have_them(
    tmp_path: Path, old: list[str] | None, new: list[str] | None
):
    grown = made(20, labels=old).extended(made(30, labels=new))
    expected = (*(old or [None] * 20), *(new or [None] * 30)[20:])
    assert grown.labels == expected
    grown.save(tmp_path / "ids.parquet")
    assert SemanticIDs.open(tmp_path / "ids.parquet").labels == expected
    grown.save(tmp_path / "ids.csv")
    with (tmp_path / "ids.csv").open(newline="") as file:
        assert [row["label"] or None for row in csv.DictReader(file)] == list(expected)


def test_ids_of_another_model_are_no_addition():
    with pytest.raises(ValueError, match="use the model that made the first"):
        made(tokenizer="a").extended(made(tokenizer="b"))


def test_tokens_of_each_part_have_a_range_of_their_own():
    ids = made()
    assert ids.offsets == (0, 3, 7)
    assert torch.equal(ids.tokens - torch.tensor([0, 3, 7]), ids.ids)
    ranges = [set(column.tolist()) for column in ids.tokens.unbind(1)]
    assert not ranges[0] & ranges[1]
    assert not ranges[1] & ranges[2]


def test_ids_lead_back_to_their_items():
    ids = made()
    some = ids.as_codes()
    assert some.specs[0].codebook_sizes == ids.level_sizes
    assert ids.name_of(some) == names()
    rows = ids.ids.clone()
    rows[0, -1] = ids.level_sizes[-1] - 1
    rows[1, -1] = 0
    strange = [tuple(row) not in set(map(tuple, ids.ids.tolist())) for row in rows.tolist()]
    level = some.levels[0]
    found = ids.name_of(type(some)((type(level)(rows, level.codebook_sizes, level.structure),)))
    assert [name is None for name in found] == strange


@pytest.mark.parametrize("labels", [None, ["u", "v", "w"] * 10])
def test_a_table_is_read_as_it_was_written(tmp_path: Path, labels: list[str] | None):
    ids = made(tokenizer="abc", labels=labels)
    ids.save(tmp_path / "ids.parquet")
    again = SemanticIDs.open(tmp_path / "ids.parquet")
    assert (again.names, again.sizes, again.tokenizer) == (ids.names, SIZES, "abc")
    assert again.labels == (None if labels is None else tuple(labels))
    assert torch.equal(again.ids, ids.ids)
    table = pq.read_table(tmp_path / "ids.parquet")
    label = ["label"] if labels else []
    tokens = ["token_0", "token_1", "token_2"]
    assert table.column_names == ["item", *label, "code_0", "code_1", "suffix", *tokens]
    assert table["token_2"].to_pylist() == ids.tokens[:, 2].tolist()


def test_a_csv_has_the_same_columns(tmp_path: Path):
    ids = made()
    ids.save(tmp_path / "ids.csv")
    with (tmp_path / "ids.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["item"] for row in rows] == names()
    assert [int(row["suffix"]) for row in rows] == ids.suffixes.tolist()
    assert [int(row["token_1"]) for row in rows] == ids.tokens[:, 1].tolist()


@pytest.mark.parametrize("content", [b"", b"PAR1 no", b"item,code_0\n"])
def test_a_file_that_is_no_table_of_ids_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "ids.parquet").write_bytes(content)
    with pytest.raises(ValueError, match="is no table of IDs"):
        SemanticIDs.open(tmp_path / "ids.parquet")


def test_a_table_of_other_columns_is_refused(tmp_path: Path):
    import pyarrow as pa

    pq.write_table(pa.table({"item": ["a"]}), tmp_path / "ids.parquet")
    with pytest.raises(ValueError, match=r"is no table of IDs \(vqkit ids did not write it\)"):
        SemanticIDs.open(tmp_path / "ids.parquet")
    with pytest.raises(FileNotFoundError):
        SemanticIDs.open(tmp_path / "none.parquet")


@pytest.mark.parametrize(
    ("some", "rows", "match"),
    [
        (["a", "a"], [[0, 0], [1, 1]], "two items are called 'a'"),
        (["a", "b"], [[0, 0], [3, 1]], "codes are out of range"),
        (["a"], [[0, 0], [1, 1]], "codes have shape"),
        (["a"], [[0]], "codes have shape"),
    ],
)
def test_what_gives_no_unique_ids_is_refused(some: list[str], rows: list, match: str):
    with pytest.raises(ValueError, match=match):
        SemanticIDs.of(some, torch.tensor(rows), SIZES)


def test_the_collision_rate_counts_the_items_that_share_codes():
    counts = Counter(map(tuple, codes().tolist()))
    shared = sum(num for num in counts.values() if num > 1)
    assert made().collision_rate == pytest.approx(shared / 30)
    assert collision_rate(torch.arange(5)) == 0
    assert collision_rate(torch.tensor([0, 0, 1])) == pytest.approx(2 / 3)


def test_groups_of_prefixes_are_those_of_equal_beginnings():
    for length, group in enumerate(prefix_groups(codes(), SIZES), start=1):
        beginnings = [tuple(row[:length]) for row in codes().tolist()]
        for i in range(30):
            for j in range(30):
                assert (group[i] == group[j]) == (beginnings[i] == beginnings[j])


def test_purity_is_that_of_the_contingency_table():
    group, labels = prefix_groups(codes(), SIZES)[0], torch.randint(4, (30,))
    table = contingency_matrix(labels.numpy(), group.numpy())
    assert purity(group, labels) == pytest.approx(table.max(0).sum() / 30)
    assert purity(torch.arange(30), labels) == 1
