"""Rows of numbers from every kind of file."""

import gzip
import pickle
import struct
from decimal import Decimal
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.modalities.vector.files import (
    vectors,
    write_csv,
    write_npy,
    write_npz,
    write_parquet,
    write_text,
)

from vqkit.data import Source
from vqkit.modalities.vector.source import open_vectors
from vqkit.modalities.vector.table import Wanted

X = vectors()
NAMES = ["a", "b", "c"]


def read(path: Path, **wanted: str) -> Source:
    source, more = open_vectors(str(path), None, Wanted(**wanted))
    assert more is None
    return source


def values(source: Source) -> np.ndarray:
    return np.stack([source[i].value for i in range(len(source))])


def classes(source: Source) -> list[str]:
    return [source.labels[source.label(i) or 0] for i in range(len(source))]


def test_npy_rows_are_read_where_they_lie(tmp_path: Path):
    source = read(write_npy(tmp_path / "x.npy", X))
    assert np.array_equal(values(source), X)
    assert isinstance(source[0].value.base, np.memmap)
    assert source.labels == ()
    assert source.id(3) == "3"
    assert source.describe(3) == f"{tmp_path}/x.npy row 3"


@pytest.mark.parametrize(
    "dtype", ["float64", "float16", "uint8", "int64", "uint16", "bool", ">f4", ">i8"]
)
def test_any_type_of_number_is_read(tmp_path: Path, dtype: str):
    data = np.abs(X).astype(dtype)
    assert np.array_equal(values(read(write_npy(tmp_path / "x.npy", data))), data)


@pytest.mark.parametrize("name", ["x", "embeddings"])
@pytest.mark.parametrize("labels", ["y", "label"])
def test_the_only_array_of_an_npz_beside_its_labels_is_read(tmp_path: Path, name: str, labels: str):
    kinds = np.arange(20) % 2
    source = read(write_npz(tmp_path / "x.npz", **{name: X, labels: kinds}))
    assert np.array_equal(values(source), X)
    assert classes(source) == [str(k) for k in kinds]


def test_of_several_arrays_one_has_to_be_named(tmp_path: Path):
    path = write_npz(tmp_path / "x.npz", a=X, b=X[:, :2], kinds=np.array(["u", "v"] * 10))
    with pytest.raises(ValueError, match=r"x\.npz has the arrays a, b, kinds; set data\.column"):
        read(path)
    source = read(path, column="b", label_column="kinds")
    assert source[0].value.shape == (2,)
    assert source.labels == ("u", "v")
    with pytest.raises(ValueError, match="column is 'z', but"):
        read(path, column="z")


@pytest.mark.parametrize(
    ("arrays", "labelled"),
    [
        (("train", "test", None, None), False),
        (("train_x", "test_x", "train_y", "test_y"), True),
        (("train", "val", "train_label", "val_label"), True),
    ],
)
def test_arrays_named_after_splits_are_the_splits(tmp_path: Path, arrays: tuple, labelled: bool):
    first, second, *labels = arrays
    more = {name: np.arange(n) % 3 for name, n in zip(labels, (12, 8), strict=True) if name}
    path = write_npz(tmp_path / "x.npz", **{first: X[:12], second: X[12:], **more})
    train, test = open_vectors(str(path))
    assert test is not None
    assert np.array_equal(values(train), X[:12])
    assert np.array_equal(values(test), X[12:])
    assert train.labels == (("0", "1", "2") if labelled else ())
    chosen, none = open_vectors(str(path), None, Wanted(second))
    assert none is None
    assert np.array_equal(values(chosen), X[12:])


@pytest.mark.parametrize("name", ["kind", "train_kind", "test_kind"])
def test_the_classes_of_splits_are_those_that_are_named(tmp_path: Path, name: str):
    kinds, more = np.array(["u", "v"] * 6), np.array(["v", "w"] * 4)
    arrays = {"train_y": np.zeros(12, int), "test_y": np.zeros(8, int)}
    arrays |= {"train_x": X[:12], "test_x": X[12:], "train_kind": kinds, "test_kind": more}
    path = write_npz(tmp_path / "x.npz", **arrays)
    train, test = open_vectors(str(path), None, Wanted(label_column=name))
    assert test is not None
    assert classes(train) == kinds.tolist()
    assert classes(test) == more.tolist()


@pytest.mark.parametrize("wanted", [{"label_column": "z"}, {"id_column": "z"}])
def test_classes_and_names_that_an_npz_does_not_have_are_refused(tmp_path: Path, wanted: dict):
    (key,) = wanted
    one = write_npz(tmp_path / "one.npz", x=X, y=np.arange(20))
    splits = write_npz(tmp_path / "two.npz", train=X[:12], test=X[12:])
    for path in (one, splits):
        with pytest.raises(ValueError, match=f"{key} is 'z', but .* data.{key}"):
            read(path, **wanted)


def test_csv_with_names_has_labels_and_ids(tmp_path: Path):
    rows = [[*row, f"k{i % 2}", f"item-{i}"] for i, row in enumerate(X.tolist())]
    source = read(write_csv(tmp_path / "x.csv", [[*NAMES, "label", "id"], *rows]))
    assert np.array_equal(values(source), X)
    assert source.labels == ("k0", "k1")
    assert source.id(4) == "item-4"
    assert source[4].id == "item-4"
    other = read(tmp_path / "x.csv", label_column="id", id_column="b", column="c")
    assert other[0].value.shape == (1,)
    assert len(other.labels) == 20
    assert other.id(0) == str(X[0, 1])


def test_csv_without_names_is_numbers_from_the_first_line_on(tmp_path: Path):
    assert np.array_equal(values(read(write_csv(tmp_path / "x.csv", X.tolist()))), X)


def test_csv_whose_names_count_from_0_as_pandas_writes_them(tmp_path: Path):
    plain = write_csv(tmp_path / "a.csv", [[0, 1, 2], *X.tolist()])
    assert np.array_equal(values(read(plain)), X)
    numbered = [[i, *row] for i, row in enumerate(X.tolist())]
    source = read(write_csv(tmp_path / "b.csv", [["", 0, 1, 2], *numbered]))
    assert np.array_equal(values(source), X)  # the number of a row is no number of a vector
    assert source.id(7) == "7"


def test_a_byte_order_mark_and_spaces_are_no_part_of_a_csv(tmp_path: Path):
    path = tmp_path / "x.csv"
    path.write_bytes(b"\xef\xbb\xbf1.5, 2\n-3, 4e1\n")
    assert values(read(path)).tolist() == [[1.5, 2], [-3, 40]]


def test_missing_cells_of_a_csv_are_nan(tmp_path: Path):
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n,4\nNaN,6\nn/a,8\n")
    assert np.isnan(values(read(path))[:, 0]).tolist() == [False, True, True, True]


def test_columns_of_words_are_left_out_but_not_columns_of_numbers_with_a_word(tmp_path: Path):
    words = write_text(tmp_path / "a.csv", "a,town,day\n1,Ulm,2020-01-01\n2,Bonn,2020-01-02\n")
    assert values(read(words)).tolist() == [[1], [2]]
    wrong = write_text(tmp_path / "b.csv", "a,b\n1,2\n3,oops\n")
    with pytest.raises(ValueError, match="column 'b' has 'oops' among its numbers, in line 3"):
        read(wrong)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("1,2,3\n4,5\n", "no table of numbers"),
        ("", "no table of numbers"),
        ("a,b\n", "has no column of numbers"),
        ("a,a\n1,2\n", "several columns 'a'"),
        ("a,id\n1,p\n2,p\n", "'p' twice in column 'id'"),
        ("name\nx\ny\n", "has no column of numbers"),
    ],
)
def test_a_csv_that_is_no_table_of_numbers_is_refused(tmp_path: Path, text: str, match: str):
    with pytest.raises(ValueError, match=match) as error:
        read(write_text(tmp_path / "x.csv", text))
    assert "\n" not in str(error.value)


def test_bytes_that_are_no_text_are_no_csv(tmp_path: Path):
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no table of numbers"):
        read(tmp_path / "x.csv")


def test_parquet_columns_of_any_number(tmp_path: Path):
    columns = {
        "a": pa.array([1, 2, None]),
        "b": pa.array([0.5, 1.5, 2.5], pa.float32()),
        "c": pa.array([True, False, None]),
        "d": pa.array([Decimal("1.00"), Decimal("2.00"), Decimal("3.00")]),
        "label": pa.array(["u", "v", "u"]),
        "item_id": pa.array([7, 8, 9]),
    }
    source = read(write_parquet(tmp_path / "x.parquet", **columns))
    nan = np.nan
    expected = [[1, 0.5, 1, 1], [2, 1.5, 0, 2], [nan, 2.5, nan, 3]]
    assert np.array_equal(values(source), expected, equal_nan=True)
    assert source.labels == ("u", "v")
    assert [source.id(i) for i in range(3)] == ["7", "8", "9"]


@pytest.mark.parametrize("kind", [pa.list_(pa.float32()), pa.list_(pa.int16()), "fixed", "large"])
def test_parquet_columns_of_lists(tmp_path: Path, kind: object):
    kinds = {"fixed": pa.list_(pa.float64(), 3), "large": pa.large_list(pa.float64())}
    data = X.round()
    column = pa.array(data.astype(int).tolist(), kinds.get(kind, kind))  # pyright: ignore
    path = write_parquet(tmp_path / "x.parquet", e=column, words=pa.array(["w"] * 20))
    assert np.array_equal(values(read(path)), data)
    chunked = pa.chunked_array([column[:7], column[7:]])
    assert np.array_equal(
        values(read(write_parquet(tmp_path / "y.parquet", e=chunked, o=column), column="e")), data
    )


@pytest.mark.parametrize(
    ("rows", "found"), [([[1.0, 2.0], [3.0]], "1 numbers"), ([[1.0, 2.0], None], "none numbers")]
)
def test_lists_of_unlike_lengths_are_refused(tmp_path: Path, rows: list, found: str):
    with pytest.raises(ValueError, match=f"row 1 of column 'e' has {found}, row 0 2"):
        read(write_parquet(tmp_path / "x.parquet", e=pa.array(rows)))


def test_parquet_without_numbers_or_with_too_many_lists_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="no column of numbers"):
        read(write_parquet(tmp_path / "x.parquet", a=["u"]))
    lists = pa.array([[1.0]])
    with pytest.raises(ValueError, match=r"set data\.column"):
        read(write_parquet(tmp_path / "x.parquet", a=lists, b=lists))
    with pytest.raises(ValueError, match="give lists of numbers"):
        read(write_parquet(tmp_path / "x.parquet", a=pa.array([["u"]])))
    (tmp_path / "y.parquet").write_bytes(b"PAR1 and then nothing")
    with pytest.raises(ValueError, match="is cut or no Parquet file"):
        read(tmp_path / "y.parquet")


def test_parquet_shards_of_a_folder_are_one_table_and_splits_are_told_by_name(tmp_path: Path):
    for name, rows in {"train-0": X[:5], "train-1": X[5:12], "test-0": X[12:]}.items():
        write_parquet(tmp_path / f"{name}.parquet", e=pa.array(rows.tolist()))
    train, test = open_vectors(str(tmp_path))
    assert test is not None
    assert np.array_equal(values(train), X[:12])
    assert np.array_equal(values(test), X[12:])
    source, _ = open_vectors(str(tmp_path / "train-*.parquet"))
    assert np.array_equal(values(source), X[:12])


def test_files_named_after_splits_are_the_splits(tmp_path: Path):
    write_npy(tmp_path / "train.npy", X[:12])
    write_npy(tmp_path / "test.npy", X[12:])
    train, test = open_vectors(str(tmp_path))
    assert test is not None
    assert (len(train), len(test)) == (12, 8)


def test_classes_of_two_files_are_numbered_alike(tmp_path: Path):
    one = write_npz(tmp_path / "a.npz", x=X, y=np.array(["u", "w"] * 10))
    other = write_npz(tmp_path / "b.npz", x=X, y=np.array(["v", "w"] * 10))
    train, test = open_vectors(str(one), str(other))
    assert test is not None
    assert train.labels == test.labels == ("u", "w", "v")
    assert [test.label(0), test.label(1)] == [2, 1]
    assert classes(test)[:2] == ["v", "w"]


def test_idx_images_are_rows_with_the_labels_beside_them(tmp_path: Path):
    images = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
    header = struct.pack(">BBBBIII", 0, 0, 8, 3, *images.shape)
    with gzip.open(tmp_path / "train-images-idx3-ubyte.gz", "wb") as file:
        file.write(header + images.tobytes())
    labels = struct.pack(">BBBBI", 0, 0, 8, 1, 2) + bytes([4, 9])
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(labels)
    source = read(tmp_path / "train-images-idx3-ubyte.gz")
    assert np.array_equal(values(source), images)
    assert source.labels == ("4", "9")


@pytest.mark.parametrize("suffix", [".npy", ".npz"])
def test_objects_are_refused_because_they_would_run_code(tmp_path: Path, suffix: str):
    data = np.array([[{"a": 1}]], dtype=object)
    with (tmp_path / f"x{suffix}").open("wb") as file:
        (np.save if suffix == ".npy" else np.savez)(file, data)
    with pytest.raises(ValueError, match="Python objects; save an array of numbers"):
        read(tmp_path / f"x{suffix}")


@pytest.mark.parametrize(
    ("array", "match"),
    [
        (np.zeros((0, 3)), "give an array of one or more items"),
        (np.zeros(3), "give an array of one or more items"),
        (np.zeros((3, 0)), "rows without a number"),
        (np.zeros((3, 2), complex), "complex128; give an array of numbers"),
        (np.array([["a"]]), "<U1; give an array of numbers"),
        (np.zeros((2, 1), "datetime64[s]"), "give an array of numbers"),
        (np.zeros((2, 1), [("a", "f4")]), "give an array of numbers"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused(tmp_path: Path, array: np.ndarray, match: str):
    for path in (write_npy(tmp_path / "x.npy", array), write_npz(tmp_path / "x.npz", a=array)):
        with pytest.raises(ValueError, match=match):
            read(path)


def test_a_damaged_file_and_one_of_another_kind_are_refused(tmp_path: Path):
    (tmp_path / "x.npy").write_bytes(b"\x93NUMPY and then nothing")
    (tmp_path / "x.npz").write_bytes(b"PK and then nothing")
    (tmp_path / "x.txt").write_bytes(b"1 2 3")
    for name in ("x.npy", "x.npz", "x.txt"):
        with pytest.raises(ValueError, match=rf"x\.{name[2:]} is n"):
            read(tmp_path / name)


def test_what_is_not_there_or_not_one_is_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"is not there; name an \.npy"):
        read(tmp_path / "x.npy")
    with pytest.raises(ValueError, match="holds 0 files of vectors"):
        read(tmp_path)
    write_npy(tmp_path / "a.npy", X)
    assert len(read(tmp_path)) == 20  # the only one
    write_npy(tmp_path / "b.npy", X)
    with pytest.raises(ValueError, match="holds 2 files of vectors; name one"):
        read(tmp_path)


def test_columns_of_a_file_without_columns_are_refused(tmp_path: Path):
    path = write_npy(tmp_path / "x.npy", X)
    for key in ("column", "label_column", "id_column"):
        with pytest.raises(ValueError, match=f"{key} is 'a', but .* leave data.{key} out"):
            read(path, **{key: "a"})


def test_a_source_is_read_again_in_the_process_that_it_is_sent_to(tmp_path: Path):
    for path in (
        write_npy(tmp_path / "x.npy", X),
        write_csv(tmp_path / "x.csv", X.tolist()),
        write_parquet(tmp_path / "x.parquet", e=pa.array(X.tolist())),
    ):
        source = read(path)
        sent = pickle.dumps(source)
        assert len(sent) < 1000
        other = pickle.loads(sent)
        assert np.array_equal(values(other), X)
        assert other.fingerprint == source.fingerprint


def test_the_fingerprint_tells_other_columns_and_contents(tmp_path: Path):
    path = write_csv(tmp_path / "x.csv", [NAMES, *X.tolist()])
    found = {read(path).fingerprint, read(path, column="a").fingerprint}
    write_csv(path, [NAMES, *(X + 1).tolist()])
    assert len(found | {read(path).fingerprint}) == 3
