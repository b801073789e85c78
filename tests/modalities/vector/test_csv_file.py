"""What is said of csv files names the right cell and the line that an editor shows."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tests.modalities.vector.files import write_npy, write_parquet, write_text

from vqkit.modalities.vector.csv_file import line_of
from vqkit.modalities.vector.data import VectorDataConfig
from vqkit.modalities.vector.source import open_vectors


@pytest.mark.parametrize("fine", ["-inf", "Infinity", "nan", "", "N/A", "1e5", " 7 ", "+5"])
def test_the_cell_that_is_no_number_is_blamed_and_no_other(tmp_path: Path, fine: str):
    path = write_text(tmp_path / "x.csv", f'a,b\n1,{fine}\n2,3\n\n4,"1,5"\n')
    with pytest.raises(ValueError, match="column 'b' has '1,5' among its numbers, in line 5"):
        open_vectors(str(path))


def test_towns_that_are_called_like_no_number_are_words(tmp_path: Path):
    path = write_text(tmp_path / "x.csv", "a,town\n1,Nan\n2,Inf\n3,Ulm\n")
    source, _ = open_vectors(str(path))
    assert source[0].value.tolist() == [1]


def test_numbers_as_text_are_refused(tmp_path: Path):
    path = write_parquet(tmp_path / "x.parquet", a=pa.array(["1", "2"]))
    with pytest.raises(ValueError, match="column 'a' holds numbers as text"):
        open_vectors(str(path))


@pytest.mark.parametrize(("names", "first"), [("", 1), ("a,b\n", 2)])
def test_rows_are_named_by_the_lines_of_an_editor(tmp_path: Path, names: str, first: int):
    path = write_text(tmp_path / "x.csv", f"{names}1,2\r\n\r\n3,nan\r\n5,6\r\n")
    assert [line_of(path, row) for row in range(3)] == [first, first + 2, first + 3]
    _, left_out = VectorDataConfig(path=str(path)).open_all()
    assert [line.startswith(f"{path} line {first + 2} has nan") for line in left_out] == [True]


def test_a_line_of_other_columns_is_named(tmp_path: Path):
    path = write_text(tmp_path / "x.csv", "a,b\n1,2\n\n3\n4,5\n")
    with pytest.raises(ValueError, match="numbers: line 4 has 1 column, line 1 has 2; mend"):
        open_vectors(str(path))


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_an_empty_file_is_called_empty(tmp_path: Path, text: str):
    path = write_text(tmp_path / "x.csv", text)
    with pytest.raises(ValueError, match="it is empty; give rows of numbers"):
        open_vectors(str(path))


def test_one_row_of_numbers_is_no_table(tmp_path: Path):
    path = write_npy(tmp_path / "x.npy", np.zeros(800))
    with pytest.raises(ValueError, match=r"has shape \(800,\); give .* rows of numbers \(N, D\)"):
        open_vectors(str(path))


def test_rows_without_a_class_are_counted(tmp_path: Path):
    path = write_parquet(tmp_path / "x.parquet", a=pa.array([1.0, 2.0]), y=pa.array(["u", None]))
    with pytest.raises(ValueError, match="column 'y' has no class in 1 of 2 rows"):
        open_vectors(str(path))
