"""What must hold for exports: each is read back by the kind of reader that it is made for."""

import json
import os
import shutil
import signal
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from tests.tokens.sets import KINDS, token_set
from tests.tokens.test_vocabulary import equal
from tests.training import tiny

from vqkit.tokens import Exported, TokenSet, export, export_tokens
from vqkit.tokens.sequences import Format

FORMATS: tuple[Format, ...] = ("memmap", "bin-idx", "parquet")


def read_index(path: Path) -> tuple[np.dtype, np.ndarray, np.ndarray, np.ndarray]:
    """Type, lengths, byte places and document bounds: an index as its published layout has it."""
    data = path.read_bytes()
    assert data[:9] == b"MMIDIDX\x00\x00"
    version, code = struct.unpack_from("<QB", data, 9)
    assert version == 1
    kinds = {1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}
    num, bounds = struct.unpack_from("<QQ", data, 18)
    lengths = np.frombuffer(data, "<i4", num, 34)
    places = np.frombuffer(data, "<i8", num, 34 + 4 * num)
    documents = np.frombuffer(data, "<i8", bounds, 34 + 12 * num)
    assert len(data) == 34 + 12 * num + 8 * bounds
    return np.dtype(kinds[code]), lengths, places, documents


def sequences(folder: Path, kind: Format) -> list[list[int]]:
    """All sequences of an export, read without vqkit."""
    if kind == "parquet":
        files = sorted(folder.glob("*.parquet"))
        return [ids.tolist() for file in files for ids in pd.read_parquet(file)["input_ids"]]
    if kind == "bin-idx":
        dtype, lengths, places, documents = read_index(folder / "tokens.idx")
        assert documents.tolist() == list(range(len(lengths) + 1))
        data = (folder / "tokens.bin").read_bytes()
        pairs = zip(lengths, places, strict=True)
        return [np.frombuffer(data, dtype, n, place).tolist() for n, place in pairs]
    header = json.loads((folder / "header.json").read_text())
    tokens = np.memmap(folder / "tokens.bin", header["dtype"], "r")
    return [part.tolist() for part in np.split(tokens, np.cumsum(header["lengths"])[:-1])]


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("codes", KINDS)
@pytest.mark.parametrize("ragged", [False, True])
def test_every_item_comes_back_exactly(tmp_path: Path, kind: Format, codes: str, ragged: bool):
    tokens = token_set(tmp_path / "tokens", codes, ragged=ragged)
    made = export_tokens(tokens, tmp_path / "out", kind)
    again = Exported.open(tmp_path / "out")
    assert len(made) == len(again) == len(tokens) == 23
    found = sequences(tmp_path / "out", kind)
    for i in range(23):
        assert equal(again.codes(i), tokens.codes(i))
        assert again.ids(i).tolist() == found[i] == made.vocabulary.ids(tokens.codes(i)).tolist()
        assert (again.id(i), again.label(i)) == (f"item {i}", i % 2)
        assert again.size(i) == tokens.size(i) == ((100 + i, 7) if ragged else None)


@pytest.mark.parametrize("kind", FORMATS)
def test_items_are_padded_to_one_length_if_asked_for(tmp_path: Path, kind: Format):
    tokens = token_set(tmp_path / "tokens", "residual", ragged=True)
    made = export_tokens(tokens, tmp_path / "out", kind, bos=False, pad_to=25)
    found = np.array(sequences(tmp_path / "out", kind))
    assert found.shape == (23, 25)
    pad, eos = made.header["pad_id"], made.header["eos_id"]
    assert made.header["bos_id"] is None
    for i, row in enumerate(found):
        real = tokens.codes(i).flat_mask()
        num = tokens.codes(i).flat().shape[1] if real is None else int(real.sum())
        assert row[num] == eos
        assert (row[num + 1 :] == pad).all()
        assert not np.isin(row[:num], [pad, eos]).any()
        assert equal(made.codes(i), tokens.codes(i))
    if kind == "parquet":
        (path,) = (tmp_path / "out").glob("*.parquet")
        masks = np.stack(pd.read_parquet(path)["attention_mask"])
        np.testing.assert_array_equal(masks, found != pad)


def test_an_item_that_is_longer_than_the_padding_is_named(tmp_path: Path):
    tokens = token_set(tmp_path / "tokens", "flat")
    with pytest.raises(ValueError, match=r"row 0 has 8 tokens, more than the 7 to pad to"):
        export_tokens(tokens, tmp_path / "out", "memmap", pad_to=7)
    assert [path.name for path in tmp_path.iterdir()] == ["tokens"]


def test_the_header_says_what_a_reader_must_know(tmp_path: Path):
    tokens = token_set(tmp_path / "tokens", "levels", num=3)
    export_tokens(tokens, tmp_path / "out", "memmap", first_id=100)
    found = json.loads((tmp_path / "out" / "header.json").read_text())
    assert found == {
        "kind": "export",
        "format": "memmap",
        "format_version": 1,
        "dtype": "uint16",
        "vocabulary_size": 123,
        "offsets": [[100], [107, 112]],
        "bos_id": 121,
        "eos_id": 122,
        "pad_id": None,
        "vocabulary": {
            "levels": [
                {"grid": [2, 2], "codebook_sizes": [7], "structure": "flat"},
                {"grid": [4, 4], "codebook_sizes": [5, 9], "structure": "product"},
            ],
            "first_id": 100,
            "bos": True,
            "eos": True,
            "pad": False,
        },
        "labels": ["cat", "dog"],
        "tokenizer": tokens.tokenizer,
        "source": tokens.source,
        "num_items": 3,
        "num_tokens": 3 * 38,
        "lengths": [38] * 3,
    }


@pytest.mark.parametrize(
    ("kind", "first_id", "dtype"),
    [
        ("memmap", 2**16 - 18, "uint16"),
        ("memmap", 2**16 - 17, "uint32"),
        ("bin-idx", 2**16 - 18, "uint16"),
        ("bin-idx", 2**16 - 17, "int32"),
        ("parquet", 0, "int32"),
    ],
)
def test_tokens_are_as_wide_as_the_vocabulary_needs(
    tmp_path: Path, kind: Format, first_id: int, dtype: str
):
    tokens = token_set(tmp_path / "tokens", "flat", num=4)
    made = export_tokens(tokens, tmp_path / "out", kind, first_id=first_id)
    assert made.header["dtype"] == dtype
    assert sequences(tmp_path / "out", kind)[0] == made.ids(0).tolist()
    if kind == "bin-idx":
        assert read_index(tmp_path / "out" / "tokens.idx")[0] == np.dtype(dtype)


def test_a_vocabulary_that_does_not_fit_is_refused(tmp_path: Path):
    tokens = token_set(tmp_path / "tokens", "flat", num=2)
    with pytest.raises(ValueError, match="has 2,147,483,649 tokens, too many for bin-idx"):
        export_tokens(tokens, tmp_path / "out", "bin-idx", first_id=2**31 - 17)
    assert not (tmp_path / "out").exists()


def test_unlabelled_items_have_no_label(tmp_path: Path):
    tokens = token_set(tmp_path / "tokens", "flat", num=2, labels=False)
    made = export_tokens(tokens, tmp_path / "out", "parquet")
    assert made.label(1) is None
    assert made.header["labels"] == []


@pytest.mark.parametrize("kind", FORMATS)
def test_an_export_gives_way_only_when_told_and_nothing_else_does(tmp_path: Path, kind: Format):
    tokens, out = token_set(tmp_path / "tokens", "flat"), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    for replace in (False, True):
        with pytest.raises(ValueError, match="holds no export; choose another folder"):
            export_tokens(tokens, out, kind, replace=replace)
    (out / "notes.txt").unlink()
    export_tokens(tokens, out, kind)
    with pytest.raises(ValueError, match="holds an export; choose another folder, or add --force"):
        export_tokens(tokens, out, kind)
    (out / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"holds notes.txt besides the export; move that away"):
        export_tokens(tokens, out, kind, replace=True)
    (out / "notes.txt").unlink()
    assert export_tokens(tokens, out, kind, replace=True, bos=False).header["bos_id"] is None
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tokens"]


def export_and_die(folder: Path) -> None:
    """Is killed when all tokens are written, and their index is not."""

    def deadly(*args: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    export.write_index = deadly
    export_tokens(TokenSet.open(folder / "tokens"), folder / "out", "bin-idx")


def test_a_killed_export_leaves_nothing_under_its_name_and_is_done_again(tmp_path: Path):
    tokens = token_set(tmp_path / "tokens", "flat")
    assert tiny.run(export_and_die, tmp_path) == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.glob(".out.*.part"))
    export_tokens(tokens, tmp_path / "out", "bin-idx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "tokens"]


@pytest.mark.parametrize("kind", FORMATS)
def test_a_damaged_export_is_named(tmp_path: Path, kind: Format):
    export_tokens(token_set(tmp_path / "tokens", "flat"), tmp_path / "out", kind)
    cut = tmp_path / "cut"
    for path in sorted((tmp_path / "out").iterdir()):
        if path.suffix == ".idx":
            continue  # for other readers alone
        shutil.copytree(tmp_path / "out", cut)
        (cut / path.name).write_bytes(path.read_bytes()[:-30])
        with pytest.raises(ValueError, match=str(cut)):
            Exported.open(cut)
        shutil.rmtree(cut)
    with pytest.raises(FileNotFoundError, match="holds no export; make one with `vqkit export`"):
        Exported.open(tmp_path / "tokens")


@pytest.mark.slow
def test_the_datasets_library_reads_input_ids_and_labels(tmp_path: Path):
    datasets = pytest.importorskip("datasets")
    made = export_tokens(token_set(tmp_path / "tokens", "levels"), tmp_path / "out", "parquet")
    rows = datasets.load_dataset(
        "parquet",
        data_files=str(tmp_path / "out" / "*.parquet"),
        split="train",
        cache_dir=str(tmp_path / "cache"),
    )
    assert [row["input_ids"] for row in rows] == [made.ids(i).tolist() for i in range(23)]
    assert [row["label"] for row in rows] == [i % 2 for i in range(23)]
