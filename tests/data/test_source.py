"""What a path opens."""

from pathlib import Path

import numpy as np
import pytest
from tests.data.files import write_folder, write_idx, write_parquet

from vqkit.data import Source, open_source, open_splits


def ids(source: Source) -> list[str]:
    return [source.id(index) for index in range(len(source))]


def test_what_is_not_there_is_named(tmp_path: Path):
    for name in ("nothing", "nothing/*.parquet"):
        with pytest.raises(FileNotFoundError, match=r"nothing.* is not there; name a folder"):
            open_source(str(tmp_path / name))


def test_a_file_of_another_kind_is_refused(tmp_path: Path):
    (tmp_path / "a.csv").write_text("1,2")
    with pytest.raises(ValueError, match=r"a.csv is no data that can be read; name a folder of"):
        open_source(str(tmp_path / "a.csv"))


def test_a_glob_opens_parquet_files_alone(tmp_path: Path):
    write_parquet(tmp_path / "a-1.parquet", 2)
    write_parquet(tmp_path / "a-2.parquet", 3)
    write_parquet(tmp_path / "b.parquet", 4)
    (tmp_path / "a-3.txt").write_text("")
    assert len(open_source(str(tmp_path / "a-*"))) == 5
    assert len(open_source(str(tmp_path / "**" / "*.parquet"))) == 9


def test_the_home_folder_may_be_written_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    write_folder(tmp_path / "photos", ["a.png"])
    monkeypatch.setenv("HOME", str(tmp_path))
    assert ids(open_source("~/photos")) == ["a.png"]


def test_images_and_parquet_in_one_folder_are_refused(tmp_path: Path):
    write_folder(tmp_path, ["a.png"])
    write_parquet(tmp_path / "b.parquet", 2)
    with pytest.raises(ValueError, match="holds images and Parquet files; name one kind"):
        open_source(str(tmp_path))


def folder_splits(root: Path, *names: str) -> Path:
    return write_folder(root, [f"{name}/{kind}/{name}.png" for name in names for kind in "ab"])


def parquet_splits(root: Path, *names: str) -> Path:
    for name in names:
        write_parquet(root / f"{name}-00000-of-00001.parquet", 2)
    return root


def idx_splits(root: Path, *names: str) -> Path:
    for name in names:
        array = np.zeros((2, 4, 4), np.uint8)
        write_idx(root / f"{name}-images-idx3-ubyte.gz", array)
    return root


@pytest.mark.parametrize(
    ("make", "names", "expected"),
    [
        (folder_splits, ["train", "test"], ("train", "test")),
        (folder_splits, ["train", "val", "test"], ("train", "val")),
        (parquet_splits, ["test", "train"], ("train", "test")),
        (parquet_splits, ["train", "validation", "test"], ("train", "validation")),
        (idx_splits, ["train", "t10k"], ("train", "t10k")),
    ],
)
def test_splits_are_found_by_their_names(
    tmp_path: Path, make, names: list[str], expected: tuple[str, str]
):
    train, evaluation = open_splits(str(make(tmp_path, *names)))
    assert evaluation is not None
    found = [f"/{source.describe(0).removeprefix(str(tmp_path))}" for source in (train, evaluation)]
    for path, name in zip(found, expected, strict=True):
        assert path.startswith(f"//{name}")
    with pytest.raises(ValueError, match=r"holds several splits; name .*train.* or "):
        open_source(str(tmp_path))


def test_what_the_message_about_splits_names_can_be_opened(tmp_path: Path):
    path = str(parquet_splits(tmp_path / "a [b]", "train", "test"))
    with pytest.raises(ValueError, match="several splits") as caught:
        open_source(path)
    train = str(caught.value).split("name ")[1].split(" or ")[0]
    assert ids(open_source(train)) == ["train-00000-of-00001/0", "train-00000-of-00001/1"]


@pytest.mark.parametrize(
    "names", [["train"], ["train", "cars"], ["test", "val"], ["train", "test", "x"]]
)
def test_other_folders_are_classes_and_no_splits(tmp_path: Path, names: list[str]):
    train, evaluation = open_splits(str(folder_splits(tmp_path, *names)))
    assert train.labels == tuple(sorted(names))
    assert evaluation is None


def test_the_layout_of_the_hub_s_repositories_is_known(tmp_path: Path):
    parquet_splits(tmp_path / "data", "train", "test")
    train, evaluation = open_splits(str(tmp_path))
    assert evaluation is not None
    assert ids(train) == ["train-00000-of-00001/0", "train-00000-of-00001/1"]


def test_explicit_data_for_evaluation_come_before_what_is_found(tmp_path: Path):
    path = folder_splits(tmp_path / "1", "train", "val")
    other = write_folder(tmp_path / "2", ["a/other.png"])
    _, evaluation = open_splits(str(path), str(other))
    assert evaluation is not None
    assert ids(evaluation) == ["a/other.png"]


def test_both_splits_number_their_classes_alike(tmp_path: Path):
    train = write_folder(tmp_path / "train", ["cats/1.png", "eels/1.png"])
    write_folder(tmp_path / "test", ["ants/1.png", "cats/1.png", "dogs/1.png", "eels/1.png"])
    first, second = open_splits(str(train.parent))
    assert second is not None
    assert first.labels == second.labels == ("cats", "eels", "ants", "dogs")
    for source in (first, second):
        for index in range(len(source)):
            record = source[index]
            assert record.label is not None
            assert source.labels[record.label] == record.id.split("/")[0]


def test_labels_of_one_split_alone_are_kept(tmp_path: Path):
    train = write_folder(tmp_path / "train", ["cats/1.png", "eels/1.png"])
    write_folder(tmp_path / "test", ["1.png"])
    first, second = open_splits(str(train.parent))
    assert second is not None
    assert (first.labels, second.labels) == (("cats", "eels"), ())
