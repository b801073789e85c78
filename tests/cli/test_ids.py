"""``vqkit ids``: what is added to a table keeps all that is there."""

from importlib import import_module
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Cli

from vqkit.cli import run
from vqkit.cli.failures import guarded
from vqkit.tokens import SemanticIDs

WORDS = ["train.progress=none", "train.device=cpu", "train.num_workers=0", "train.steps=5"]
STAGES = ["model.quantizer.stages=2", "model.quantizer.quantizer.codebook_size=8"]

ids = import_module("vqkit.cli.ids")  # the package has the command under that name


def write(path: Path, first: int, last: int, label: str | None = None) -> Path:
    """A csv of rows with names, and with a class or without."""
    x = np.random.default_rng(0).normal(size=(80, 4))
    head = f"item_id,a,b,c,d{',label' if label else ''}"
    lines = [",".join([f"i{n}", *map(str, x[n]), *([label] if label else [])]) for n in range(80)]
    path.write_text("\n".join([head, *lines[first:last]]) + "\n")
    return path


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the run of a tokenizer without a network."""
    home = tmp_path_factory.mktemp("ids")
    words = [f"data.path={write(home / 'all.csv', 0, 80)}", *WORDS, *STAGES]
    words = ["train", "vectors-additive", *words, "model.quantizer.rounds=2", "-o"]
    assert guarded(run, [*words, str(home / "run")]) == 0
    return home


def test_items_without_labels_leave_the_labels_that_are_there(cli: Cli, home: Path, tmp_path: Path):
    out = tmp_path / "ids.parquet"
    assert cli("ids", home / "run", write(tmp_path / "a.csv", 0, 50, "u"), out).code == 0
    result = cli("ids", home / "run", write(tmp_path / "b.csv", 50, 80), out)
    assert result.code == 0, result.err
    assert "100.0% of one class" in result.out
    assert SemanticIDs.open(out).labels == ("u",) * 50 + (None,) * 30


def test_two_commands_at_once_lose_no_rows(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out, encode = tmp_path / "ids.parquet", ids.ids_of
    assert cli("ids", home / "run", write(tmp_path / "a.csv", 0, 30), out).code == 0

    def slow(*words):
        """Another command begins later and ends earlier."""
        monkeypatch.setattr(ids, "ids_of", encode)
        assert cli("ids", home / "run", write(tmp_path / "b.csv", 30, 60), out).code == 0
        return encode(*words)

    monkeypatch.setattr(ids, "ids_of", slow)
    result = cli("ids", home / "run", write(tmp_path / "c.csv", 60, 80), out)
    assert f"80 IDs, 20 of them new: {out}" in result.out
    assert SemanticIDs.open(out).names == tuple(f"i{n}" for n in range(80))


def test_a_table_of_something_else_is_said_in_plain_words(cli: Cli, home: Path, tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    out = tmp_path / "other.parquet"
    pq.write_table(pa.table({"a": [1]}), out)
    failure = cli("ids", home / "run", home / "all.csv", out).failure
    assert failure == f"{out} is no table of IDs (vqkit ids did not write it); give another file"


def test_a_folder_that_is_missing_is_named_before_anything_is_encoded(
    cli: Cli, home: Path, tmp_path: Path
):
    out = tmp_path / "none" / "ids.csv"
    failure = cli("ids", home / "run", home / "all.csv", out).failure
    assert failure == f"{out}: there is no folder {out.parent}; make it first"


def test_the_help_says_that_a_csv_is_a_new_file(cli: Cli):
    words = " ".join(cli("ids", "--help").out.replace("│", " ").split())
    assert "A .parquet file, where IDs that it has stay, or a new .csv file." in words
