"""Parquet files of images."""

import json
import pickle
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.data.files import encoded, picture, write_parquet

from vqkit.data import open_source, parquet


@pytest.mark.parametrize("plain", [True, False], ids=["binary", "struct"])
def test_rows_are_read_in_any_order(tmp_path: Path, plain: bool):
    source = open_source(str(write_parquet(tmp_path / "a.parquet", 10, plain=plain)))
    assert len(source) == 10
    for index in random.Random(0).sample(range(10), 10):
        assert source[index].value == encoded(picture(index))
    assert [source.id(index) for index in (0, 9)] == ["a/0", "a/9"]
    assert source.describe(9) == f"{tmp_path / 'a.parquet'} row 9"


def test_files_follow_one_another_and_their_names_are_in_the_ids(tmp_path: Path):
    for name, count in (("b", 3), ("a", 11), ("deep/a", 1)):
        write_parquet(tmp_path / f"{name}.parquet", count)
    source = open_source(str(tmp_path))
    assert len(source) == 15
    assert [source.id(i) for i in (0, 10, 11, 14)] == ["a/00", "a/10", "b/0", "deep/a/0"]
    assert [source[i].value for i in (10, 13, 14)] == [encoded(picture(i)) for i in (10, 2, 0)]
    assert len({source.id(index) for index in range(15)}) == 15


def test_little_memory_gives_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = open_source(str(write_parquet(tmp_path / "a.parquet", 20, row_group_size=3)))
    monkeypatch.setattr(parquet, "CACHE_BYTES", 1)
    order = random.Random(0).sample(range(20), 20)
    assert [source[i].value for i in order] == [encoded(picture(i)) for i in order]


def test_threads_read_side_by_side(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = open_source(str(write_parquet(tmp_path / "a.parquet", 30, row_group_size=2)))
    monkeypatch.setattr(parquet, "CACHE_BYTES", 1)
    order = random.Random(0).sample(list(range(30)) * 4, 120)
    with ThreadPoolExecutor(4) as threads:
        found = list(threads.map(lambda index: source[index].value, order))
    assert found == [encoded(picture(index)) for index in order]


def test_a_pickled_source_reads_the_same(tmp_path: Path):
    source = open_source(str(write_parquet(tmp_path / "a.parquet", 5, labels=list("ababa"))))
    assert source[0].value == encoded(picture(0))
    copy = pickle.loads(pickle.dumps(source))
    assert copy[4] == source[4]
    assert copy.fingerprint == source.fingerprint
    assert len(pickle.dumps(source)) < 2000  # the images are not in it


@pytest.mark.parametrize(
    ("labels", "names", "classes"),
    [
        ([10, 2, 2, 10], ("2", "10"), [1, 0, 0, 1]),
        (["dog", "cat", "cat", "dog"], ("cat", "dog"), [1, 0, 0, 1]),
        ([True, False, False, True], ("False", "True"), [1, 0, 0, 1]),
    ],
)
def test_labels_are_numbers_or_text(tmp_path: Path, labels, names, classes: list[int]):
    source = open_source(str(write_parquet(tmp_path / "a.parquet", 4, labels=labels)))
    assert source.labels == names
    assert [source.label(index) for index in range(4)] == classes


def test_names_of_classes_come_from_the_hub_s_metadata(tmp_path: Path):
    names = ["plane", "car", "bird"]
    info = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
    metadata = {b"huggingface": json.dumps(info).encode()}
    path = write_parquet(tmp_path / "a.parquet", 3, labels=[2, 0, 2], metadata=metadata)
    source = open_source(str(path))
    assert source.labels == ("plane", "car", "bird")
    assert [source.label(index) for index in range(3)] == [2, 0, 2]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ([0, -1], "has negative numbers; give 0 or more"),
        ([0, None], "has None in row 1; give integers or text in every row"),
        ([None, "a"], "has None in row 0; .* \\(1 of 2 have none\\)"),
        ([0.5, 1.5], "has 0.5 in row 0"),
    ],
)
def test_what_cannot_be_labels_is_left_out_unless_it_was_asked_for(
    tmp_path: Path, labels: list, reason: str
):
    path = str(write_parquet(tmp_path / "a.parquet", 2, labels=labels))
    assert open_source(path).labels == ()
    assert open_source(path)[0].label is None
    with pytest.raises(ValueError, match=reason):
        open_source(path, label_column="label")


def test_a_wrong_column_names_those_that_are_there(tmp_path: Path):
    path = str(write_parquet(tmp_path / "a.parquet", 2))
    with pytest.raises(
        ValueError,
        match=r"column is 'img', but .* columns image, name.*; set data.column to one of them",
    ):
        open_source(path, column="img")
    with pytest.raises(
        ValueError,
        match=r"label_column is 'kind', .* image, name.*; set data.label_column to one",
    ):
        open_source(path, label_column="kind")
    with pytest.raises(ValueError, match=r"column 'name' of .* holds string; name one with bytes"):
        open_source(path, column="name")


@pytest.mark.parametrize(
    ("columns", "which"),
    [({"a": [b"1"], "b": [b"2"]}, "bytes of files: a, b"), ({"a": [1]}, "bytes of files: none")],
)
def test_a_column_that_could_be_several_or_none_must_be_named(
    tmp_path: Path, columns: dict, which: str
):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table(columns), path)
    with pytest.raises(ValueError, match=rf"{which}\); set data.column to one"):
        open_source(str(path))


def test_a_row_without_a_file_is_an_error_of_that_row(tmp_path: Path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.array([b"1", None], pa.binary())}), path)
    source = open_source(str(path))
    assert source[0].value == b"1"
    with pytest.raises(ValueError, match="is null; store the bytes"):
        source[1]


def test_files_that_are_damaged_empty_or_unlike_are_one_line(tmp_path: Path):
    good = write_parquet(tmp_path / "good" / "a.parquet", 2)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(good.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cut.parquet is cut or no Parquet file .*copy it again"):
        open_source(str(cut))
    empty = write_parquet(tmp_path / "empty.parquet", 0, plain=True)
    with pytest.raises(ValueError, match="has no rows"):
        open_source(str(empty))
    pq.write_table(pa.table({"other": [b"1"]}), tmp_path / "good" / "b.parquet")
    with pytest.raises(ValueError, match=r"b.parquet has no column 'image', as .*a.parquet has"):
        open_source(str(tmp_path / "good"))


def test_the_fingerprint_depends_on_contents_and_columns_not_on_the_place(tmp_path: Path):
    path = write_parquet(tmp_path / "1" / "a.parquet", 4, labels=[0, 1, 0, 1])
    copy = tmp_path / "2" / "a.parquet"
    copy.parent.mkdir()
    copy.write_bytes(path.read_bytes())
    first = open_source(str(path)).fingerprint
    assert open_source(str(copy)).fingerprint == first
    assert open_source(str(copy.parent)).fingerprint == first
    assert open_source(str(path), label_column="name").fingerprint != first
    write_parquet(copy, 4, labels=[1, 0, 0, 1])
    assert open_source(str(copy)).fingerprint != first
