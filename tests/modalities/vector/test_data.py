"""Vectors as examples: what is whole, how it is split, and what is said of the rest."""

from pathlib import Path

import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError
from tests.modalities.vector.files import vectors, write_csv, write_npy, write_npz

from vqkit.data import Examples
from vqkit.modalities.vector import VectorDataConfig
from vqkit.modalities.vector.data import VectorExamples

X = vectors(20, 4)


def config(path: Path, **options) -> VectorDataConfig:
    return VectorDataConfig(path=str(path), **options)


def rows(examples: VectorExamples) -> np.ndarray:
    return np.stack([examples.example(i).x.numpy() for i in range(len(examples))])


def test_vectors_are_float32_with_a_label_and_a_name(tmp_path: Path):
    path = write_npz(tmp_path / "x.npz", x=X.astype(np.float64), y=np.arange(20) % 2)
    examples, unreadable = config(path).open_all()
    assert isinstance(examples, Examples)
    assert unreadable == ()
    assert examples.shape == (4,)
    assert np.array_equal(rows(examples), X)
    assert rows(examples).dtype == np.float32
    assert [examples.example(i).label for i in range(3)] == [0, 1, 0]
    assert examples.labels == ("0", "1")
    assert (examples.id(3), examples.describe(3)) == ("3", f"{path}[x] row 3")


def test_items_of_more_axes_are_flattened(tmp_path: Path):
    examples, _ = config(write_npy(tmp_path / "x.npy", X.reshape(20, 2, 2))).open_all()
    assert np.array_equal(rows(examples), X)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", ["npy", "csv"])
def test_rows_with_what_is_no_number_are_listed_and_left_out(
    tmp_path: Path, bad: float, suffix: str
):
    x = X.astype(np.float64)
    x[[3, 11], [1, 2]] = bad
    path = tmp_path / f"x.{suffix}"
    path = write_npy(path, x) if suffix == "npy" else write_csv(path, x.tolist())
    places = ("row 3", "row 11") if suffix == "npy" else ("line 4", "line 12")
    examples, lines = config(path).open_all()
    assert np.array_equal(rows(examples), np.delete(X, [3, 11], axis=0))
    assert [examples.id(2), examples.id(3)] == ["2", "4"]
    assert lines == tuple(
        f"{path} {place} has {bad} in column {column}, which is no number; mend it, or remove "
        "the row"
        for place, column in zip(places, (1, 2), strict=True)
    )
    with pytest.raises(
        ValueError, match=f"2 of 20 items cannot be read; the first: .* {places[0]}"
    ):
        config(path, strict=True).open_all()


def test_numbers_that_float32_cannot_hold_are_listed_and_large_ones_are_kept(tmp_path: Path):
    x = X.astype(np.float64)
    x[0, 0], x[1, 3] = 3e38, 1e39
    examples, lines = config(write_npy(tmp_path / "x.npy", x)).open_all()
    assert len(examples) == 19
    assert rows(examples)[0, 0] == np.float32(3e38)
    assert lines[0].endswith("has 1e+39 in column 3, which is too large for float32; mend it, "
                             "or remove the row")  # fmt: skip


def test_a_file_without_a_whole_row_is_refused(tmp_path: Path):
    path = write_npy(tmp_path / "x.npy", np.full((5, 2), np.nan))
    with pytest.raises(ValueError, match="5 of 5 items cannot be read"):
        config(path).open_all()


def test_integers_and_truth_values_are_numbers(tmp_path: Path):
    for data in (np.arange(12).reshape(4, 3), np.eye(4, dtype=bool)):
        examples, _ = config(write_npy(tmp_path / "x.npy", data)).open_all()
        assert np.array_equal(rows(examples), data.astype(np.float32))


def test_the_split_is_a_function_of_the_seed_and_never_of_order(tmp_path: Path):
    path = write_npy(tmp_path / "x.npy", X)
    one = config(path, eval_fraction=0.25).open()
    assert (len(one.train), len(one.evaluation)) == (15, 5)
    both = np.concatenate([rows(one.train), rows(one.evaluation)])
    assert sorted(both.tolist()) == sorted(X.tolist())
    assert np.array_equal(rows(config(path, eval_fraction=0.25).open().evaluation), both[15:])
    other = config(path, eval_fraction=0.25, split_seed=1).open()
    assert not np.array_equal(rows(other.evaluation), both[15:])


def test_splits_of_unlike_length_are_refused(tmp_path: Path):
    path = write_npz(tmp_path / "x.npz", train=X, test=X[:, :3])
    with pytest.raises(ValueError, match="for training have 4 numbers, for evaluation 3"):
        config(path).open()


def test_a_file_of_several_splits_is_read_whole_by_the_name_of_one(tmp_path: Path):
    path = write_npz(tmp_path / "x.npz", train=X[:12], test=X[12:])
    assert len(config(path).open().evaluation) == 8
    with pytest.raises(ValueError, match=r"several splits; set data\.column to one"):
        config(path).open_all()
    assert len(config(path, column="test").open_all()[0]) == 8


def test_a_run_keeps_what_was_found_and_refuses_changed_data(tmp_path: Path):
    x = X.copy()
    x[5, 0] = np.nan
    path = write_npy(tmp_path / "x.npy", x)
    first = config(path).open(folder=tmp_path / "run")
    again = config(path).open(folder=tmp_path / "run")
    assert first.unreadable == again.unreadable
    assert len(first.unreadable) == 1
    assert first.train.fingerprint == again.train.fingerprint
    write_npy(path, X)
    with pytest.raises(ValueError, match="data changed since the run began"):
        config(path).open(folder=tmp_path / "run")


def test_a_part_is_of_the_same_source_and_has_its_own_fingerprint(tmp_path: Path):
    examples, _ = config(write_npy(tmp_path / "x.npy", X)).open_all()
    part = examples.part([4, 2])
    assert np.array_equal(rows(part), X[[4, 2]])
    assert part.fingerprint not in (examples.fingerprint, examples.part([2, 4]).fingerprint)
    with pytest.raises(ValueError, match="there are no vectors"):
        examples.part([])


@pytest.mark.parametrize("options", [{"eval_fraction": 0}, {"size": 3}, {"column": 1}])
def test_options_that_make_no_sense_are_refused(options: dict):
    with pytest.raises(ValidationError):
        TypeAdapter(VectorDataConfig).validate_python({"path": "x.npy", **options})
