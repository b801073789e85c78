"""Arrays of images: npy, npz, idx and the digits."""

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.data.files import write_idx

from vqkit.data import open_source

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 4, 3), dtype=np.uint8)
CLASSES = np.array([3, 1, 1, 3, 0], dtype=np.uint8)


@pytest.fixture(params=["npy", "npz", "idx", "idx.gz"])
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same images in every format."""
    if request.param == "npy":
        file = tmp_path / "images.npy"
        np.save(file, IMAGES)
    elif request.param == "npz":
        file = tmp_path / "images.npz"
        np.savez_compressed(file, images=IMAGES)
    else:
        gz = request.param.removeprefix("idx")
        file = write_idx(tmp_path / f"train-images-idx3-ubyte{gz}", IMAGES)
    return file


def test_rows_are_items(path: Path):
    source = open_source(str(path))
    assert len(source) == 5
    assert source.item_shape == (4, 3)
    assert all(np.array_equal(source[i].value, IMAGES[i]) for i in (4, 0, 2))
    assert [source.id(i) for i in (0, 4)] == ["0", "4"]
    assert str(path) in source.describe(4)
    assert source.describe(4).endswith("row 4")
    assert source.labels == ()


def test_a_pickled_source_reads_the_file_again(path: Path):
    copy = pickle.loads(pickle.dumps(open_source(str(path))))
    assert np.array_equal(copy[3].value, IMAGES[3])
    assert "_array" not in open_source(str(path)).__getstate__()  # pyright: ignore


def test_a_relative_path_has_the_same_fingerprint(path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = open_source(str(path)).fingerprint
    monkeypatch.chdir(path.parent)
    assert open_source(path.name).fingerprint == whole


def test_a_changed_value_has_another_fingerprint(path: Path):
    before = open_source(str(path)).fingerprint
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    try:
        assert open_source(str(path)).fingerprint != before
    except ValueError as error:  # the checksum of gzip or zip saw it first
        assert str(path) in str(error)  # noqa: PT017


def test_an_array_cut_short_is_one_line(path: Path):
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=path.name) as caught:
        open_source(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("gz", ["", ".gz"])
def test_labels_of_idx_files_are_found_by_their_name(tmp_path: Path, gz: str):
    write_idx(tmp_path / f"train-images-idx3-ubyte{gz}", IMAGES)
    write_idx(tmp_path / "train-labels-idx1-ubyte", CLASSES)
    source = open_source(str(tmp_path / f"train-images-idx3-ubyte{gz}"))
    assert source.labels == ("0", "1", "3")
    assert [source.label(i) for i in range(5)] == [2, 1, 1, 2, 0]


def test_a_file_that_is_no_idx_says_how_it_begins(tmp_path: Path):
    path = tmp_path / "images-idx3-ubyte"
    for data, start in (
        (b"\x89PNG....", "89 50 4e 47"),
        (b"", "nothing"),
        (b"\0\0\7\1", "00 00 07"),
    ):
        path.write_bytes(data)
        with pytest.raises(ValueError, match=f"is not an idx file: it begins with {start}"):
            open_source(str(path))


def test_an_idx_file_of_another_length_than_it_says_is_refused(tmp_path: Path):
    path = write_idx(tmp_path / "images-idx3-ubyte", IMAGES)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(ValueError, match=r"come 64 bytes, the shape \(5, 4, 3\) needs 60"):
        open_source(str(path))


def test_arrays_of_an_npz_file_are_chosen_by_name(tmp_path: Path):
    path = tmp_path / "a.npz"
    np.savez(path, x=IMAGES, y=CLASSES)
    source = open_source(str(path), column="x", label_column="y")
    assert source.labels == ("0", "1", "3")
    assert open_source(str(path), label_column="y").item_shape == (4, 3)
    for options, message in (
        ({}, "has the arrays x, y; set data.column to one of them"),
        ({"column": "z"}, "column is 'z', but .* has the arrays x, y; set data.column to one"),
        (
            {"column": "x", "label_column": "z"},
            "label_column is 'z', but .* arrays x, y; set data.label_column to",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            open_source(str(path), **options)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (CLASSES[:4], r"has 5 rows, its labels shape \(4,\)"),
        (CLASSES / 2, "the labels are float64; give integers or text"),
    ],
)
def test_labels_that_do_not_fit_are_refused(tmp_path: Path, classes, message: str):
    np.savez(tmp_path / "a.npz", x=IMAGES, y=classes)
    with pytest.raises(ValueError, match=message):
        open_source(str(tmp_path / "a.npz"), label_column="y")


def test_labels_of_one_column_and_of_text_are_taken(tmp_path: Path):
    for number, classes in enumerate((CLASSES[:, None], np.array(list("dbbda")))):
        path = tmp_path / f"{number}.npz"
        np.savez(path, x=IMAGES, y=classes)
        source = open_source(str(path), label_column="y")
        assert [source.label(i) for i in range(5)] == [2, 1, 1, 2, 0]


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("data", [b"", b"not an array, but some text", b"\x93NUMPY\x01\x00v\x00"])
def test_a_file_that_is_no_array_says_what_to_do(tmp_path: Path, name: str, data: bytes):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"file, or is cut.*; restore it from a copy$") as error:
        open_source(str(tmp_path / name))
    assert "pickle" not in str(error.value)


def test_arrays_of_objects_and_of_nothing_are_refused(tmp_path: Path):
    np.save(tmp_path / "objects.npy", np.array([IMAGES, None], dtype=object))
    np.savez(tmp_path / "objects.npz", x=np.array([IMAGES, None], dtype=object))
    for name in ("objects.npy", "objects.npz"):
        with pytest.raises(ValueError, match="holds Python objects; save an array of numbers"):
            open_source(str(tmp_path / name))
    for shape in ((0, 4, 3), (5,)):
        np.save(tmp_path / "a.npy", np.zeros(shape, np.uint8))
        with pytest.raises(ValueError, match="give an array of one or more items"):
            open_source(str(tmp_path / "a.npy"))


def test_the_digits_are_those_of_scikit_learn_stretched_to_bytes():
    from sklearn.datasets import load_digits

    source, digits = open_source("digits"), load_digits()
    assert source.labels == tuple("0123456789")
    assert len(source) == 1797
    for index in (0, 5, 1796):
        levels = digits.images[index]
        assert np.array_equal(source[index].value, np.rint(levels / 16 * 255).astype(np.uint8))
        assert source.label(index) == digits.target[index]
    assert source[0].value.max() <= 255
    assert open_source("digits").fingerprint == source.fingerprint
    assert np.array_equal(pickle.loads(pickle.dumps(source))[3].value, source[3].value)


def test_the_digits_without_scikit_learn_name_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ValueError, match=r'pip install "vqkit\[demo\]"'):
        open_source("digits")
