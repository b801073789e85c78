"""Data sets of the hub, with the real library but without the network."""

import logging
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.data.files import encoded, picture

from vqkit.data import open_source, open_splits

datasets = pytest.importorskip("datasets")


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A hub that has one data set of two splits."""
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "name": datasets.Value("string"),
        }
    )

    def load(name: str, split: str) -> Any:
        if (name, split) not in {("me/pets", "train"), ("me/pets", "test")}:
            raise FileNotFoundError(f"no {name}\nwith {split}")
        files = [{"bytes": encoded(picture(seed)), "path": None} for seed in range(3)]
        columns = {"image": files, "label": [1, 0, 1], "name": ["x", "y", "z"]}
        return datasets.Dataset.from_dict(columns, features=features)

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name: ["test", "train"])


def test_rows_are_items_with_the_bytes_of_their_files(hub: Any):
    source = open_source("hub:me/pets:train")
    assert len(source) == 3
    assert source.labels == ("cat", "dog")
    record = source[2]
    assert (record.id, record.label) == ("2", 1)
    assert record.value == encoded(picture(2))
    assert source.describe(2) == "hub:me/pets:train row 2"
    assert source.fingerprint == open_source("hub:me/pets:train").fingerprint


def test_files_that_lie_beside_the_data_set_are_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    path = tmp_path / "0.png"
    path.write_bytes(encoded(picture(0)))
    features = datasets.Features({"image": datasets.Image()})
    columns = {"image": [{"bytes": None, "path": str(path)}]}
    data = datasets.Dataset.from_dict(columns, features=features)
    monkeypatch.setattr(datasets, "load_dataset", lambda name, split: data)
    assert open_source("hub:me/pets:train")[0].value == path.read_bytes()


def test_splits_are_found_by_their_names(hub: Any):
    train, evaluation = open_splits("hub:me/pets")
    assert evaluation is not None
    assert [part.describe(0) for part in (train, evaluation)] == [
        "hub:me/pets:train row 0",
        "hub:me/pets:test row 0",
    ]
    with pytest.raises(ValueError, match="name hub:me/pets:train or hub:me/pets:test"):
        open_source("hub:me/pets")


def test_a_wrong_column_names_those_that_are_there(hub: Any):
    with pytest.raises(
        ValueError, match=r"column is 'img', but .* image, label, name; set data\..*column to one"
    ):
        open_source("hub:me/pets:train", column="img")
    with pytest.raises(
        ValueError,
        match=r"label_column is 'kind', but .* image, label, name; set data\..*column to one",
    ):
        open_source("hub:me/pets:train", label_column="kind")
    with pytest.raises(ValueError, match=r"label_column 'name' of .* has no names of classes"):
        open_source("hub:me/pets:train", label_column="name")


def test_what_the_hub_does_not_have_is_one_line(hub: Any):
    with pytest.raises(ValueError, match=r"hub:me/pet:train cannot be opened \(no me/pet with"):
        open_source("hub:me/pet:train")


def test_attempts_of_the_library_are_not_told(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    log = logging.getLogger("huggingface_hub.utils._http")

    def fail(name: str, split: str) -> None:
        log.warning("Retrying in 1s [Retry 1/5].")
        raise ConnectionError("Couldn't reach it")

    monkeypatch.setattr(datasets, "load_dataset", fail)
    with pytest.raises(ValueError, match=r"cannot be opened .* and the network"):
        open_source("hub:me/pets:train")
    assert caplog.text == ""
    log.warning("of another program")
    assert "of another program" in caplog.text


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r'pip install "vqkit\[hub\]"'):
        open_source("hub:me/pets:train")
