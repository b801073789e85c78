"""What ``vqkit export`` and ``vqkit encode --features`` print, write and refuse."""

from pathlib import Path

import pyarrow.parquet as pq
import pytest
from tests.cli.conftest import Cli, Made
from tests.cli.test_beginning import contents

from vqkit.tokens import Exported, TokenSet


@pytest.mark.parametrize("format", ["memmap", "bin-idx", "parquet"])
def test_an_export_says_what_it_is_and_holds_the_tokens(
    cli: Cli, made: Made, tmp_path: Path, format: str
):
    result = cli("export", made.tokens, tmp_path / "out", "--format", format)
    assert result.code == 0, result.err
    dtype = "int32" if format == "parquet" else "uint16"
    assert result.out == f"20 sequences, 120 tokens of 10 kinds, {dtype}: {tmp_path / 'out'}\n"
    found, tokens = Exported.open(tmp_path / "out"), TokenSet.open(made.tokens)
    for i in range(20):
        assert found.codes(i).flat().tolist() == tokens.codes(i).flat().tolist()


def test_an_export_is_replaced_only_when_told_and_never_what_is_none(
    cli: Cli, made: Made, tmp_path: Path
):
    words = ["export", made.tokens, tmp_path / "out"]
    assert cli(*words).code == 0
    before = contents(tmp_path)
    failure = cli(*words, "--no-eos").failure
    assert failure.endswith("holds an export; choose another folder, or add --force")
    assert contents(tmp_path) == before
    more = ["--no-bos", "--no-eos", "--first-id", 5, "--pad-to", 6, "--force"]
    assert cli(*words, *more).code == 0
    assert Exported.open(tmp_path / "out").header["pad_id"] == 13
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    failure = cli("export", made.tokens, tmp_path / "mine", "--force").failure
    assert failure == f"{tmp_path / 'mine'} exists and holds no export; choose another folder"


def test_what_is_no_token_set_is_refused(cli: Cli, made: Made, tmp_path: Path):
    failure = cli("export", made.images, tmp_path / "out").failure
    assert failure.startswith(f"{made.images} holds no tokens-*.parquet")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("side", ["z_e", "z_q"])
def test_vectors_are_written_instead_of_tokens_if_asked_for(
    cli: Cli, made: Made, tmp_path: Path, side: str
):
    words = ["encode", made.run, made.images, tmp_path / "out", "--features", side]
    result = cli(*words, "--shard-size", 8)
    assert result.code == 0, result.err
    assert result.out == f"{side} of 20 images: {tmp_path / 'out'}\n"
    paths = sorted((tmp_path / "out").iterdir())
    assert [path.name for path in paths] == [f"features-0000{k}-of-00003.parquet" for k in range(3)]
    rows = [row for path in paths for row in pq.read_table(path).to_pylist()]
    tokens = TokenSet.open(made.tokens)
    assert [row["id"] for row in rows] == [tokens.id(i) for i in range(20)]
    assert rows[0]["shape"] == [[2, 2, 4]]
    before = contents(tmp_path)
    assert cli(*words, "--shard-size", 8).code == 0
    assert contents(tmp_path) == before
    failure = cli("encode", made.run, made.images, made.tokens, "--features", side).failure
    assert failure.startswith(f"{made.tokens} holds tokens-00000-of-00001.parquet and is no")
