"""Texts as examples, from the files to the items."""

import pickle
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from vqkit.data import Examples
from vqkit.modalities.text import BYTES, END, TextDataConfig, TextExamples
from vqkit.modalities.text.source import TEXTS, piece_ends

STRANGE = [
    "plain\n",
    "carriage return\r\n",
    "\n",
    "bidirectional \u202e dlrow \u2066 العربية עברית\n",
    "combining e\u0301 o\u0308\u0323 \U0001f468\u200d\U0001f469\u200d\U0001f467\n",
    "a zero \x00 and \x85 \u2028 no newlines\n",
    "without a newline",
]


def config(path: Path, **options) -> TextDataConfig:
    return TextDataConfig(path=str(path), **options)


def texts(examples: TextExamples) -> list[bytes]:
    return [BYTES.text(examples.example(i).x) for i in range(len(examples))]


def test_lines_are_items_and_joined_give_the_file_back(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_bytes("".join(STRANGE).encode())
    found, unreadable = config(path).open_all()
    assert isinstance(found, Examples)
    assert unreadable == ()
    assert [text.decode() for text in texts(found)] == STRANGE
    assert b"".join(texts(found)) == path.read_bytes()
    assert found.labels == ()
    assert [found.id(i) for i in range(3)] == ["0", "1", "2"]
    assert found.describe(2) == f"{path} line 3"


@pytest.mark.parametrize("patch", [1, 2, 3, 8])
def test_items_are_filled_up_with_ends_to_a_multiple_of_the_patch(tmp_path: Path, patch: int):
    path = tmp_path / "lines.txt"
    path.write_bytes("".join(STRANGE).encode())
    found, _ = config(path, patch=patch).open_all()
    for i, line in enumerate(STRANGE):
        x = found.example(i).x
        size = len(line.encode())
        assert x.dtype == torch.int16
        assert x.shape == (1, -(-size // patch) * patch)
        assert (x[0, :size] != END).all()
        assert (x[0, size:] == END).all()
        assert found.lengths[i] == x.shape[1]


@settings(deadline=None, max_examples=200)
@given(text=st.text(), chunk=st.integers(4, 20))
def test_pieces_are_whole_characters_of_at_most_so_many_bytes(text: str, chunk: int):
    import numpy as np

    data = text.encode()
    if not data:
        return
    ends = piece_ends(np.frombuffer(data, np.uint8), chunk).tolist()
    pieces = [data[a:b] for a, b in zip([0, *ends], ends, strict=False)]
    assert b"".join(pieces) == data
    assert all(0 < len(piece) <= chunk for piece in pieces)
    assert all(len(piece) > chunk - 4 for piece in pieces[:-1])
    assert "".join(piece.decode() for piece in pieces) == text


def test_pieces_of_a_file_joined_give_it_back(tmp_path: Path):
    path = tmp_path / "book.txt"
    path.write_bytes("".join(STRANGE).encode())
    found, _ = config(path, chunk=16).open_all()
    assert b"".join(texts(found)) == path.read_bytes()
    assert max(map(len, texts(found))) <= 16
    assert found.describe(0) == f"{path} bytes 0 to 16"


@settings(deadline=None, max_examples=50)
@given(data=st.binary(min_size=1, max_size=60), chunk=st.integers(4, 9))
@example(data=b"\xc3" + b"\xa4" * 8, chunk=4)
def test_pieces_of_what_is_no_text_end_somewhere_too(data: bytes, chunk: int):
    import numpy as np

    ends = piece_ends(np.frombuffer(data, np.uint8), chunk)
    assert ends[-1] == len(data)
    assert (np.diff(ends, prepend=0) > 0).all()
    assert (np.diff(ends, prepend=0) <= chunk).all()


def test_what_is_no_text_is_listed_with_place_and_reason_and_nothing_else_changes(tmp_path: Path):
    path = tmp_path / "lines.txt"
    lines = [b"good\n", b"bad \xff byte\n", b"cut \xe2\x82\n", b"x" * 1_000_000 + b"\n", b"last"]
    path.write_bytes(b"".join(lines))
    found, unreadable = config(path).open_all()
    assert texts(found) == [b"good\n", b"last"]
    assert unreadable == (
        f"{path} line 2 is no UTF-8 (0xff at byte 4); save it as UTF-8",
        f"{path} line 3 is no UTF-8 (0xe2 at byte 4); save it as UTF-8",
        f"{path} line 4 has 1,000,001 bytes, more than data.longest, 4,096; raise that, or set "
        "data.chunk",
    )
    with pytest.raises(
        ValueError, match=r"3 of 5 items cannot be read; the first: .* line 2 is no"
    ):
        config(path, strict=True).open_all()
    long, unreadable = config(path, longest=2_000_000).open_all()
    assert len(texts(long)[1]) == 1_000_001
    assert len(unreadable) == 2


def test_an_empty_file_is_refused_alone_and_listed_among_others(tmp_path: Path):
    (tmp_path / "a.txt").write_bytes(b"")
    with pytest.raises(ValueError, match=r"1 of 1 items .*a.txt line 1 is empty; remove it"):
        config(tmp_path / "a.txt").open_all()
    (tmp_path / "b.txt").write_text("something")
    for options in ({}, {"chunk": 4}):
        found, unreadable = config(tmp_path, **options).open_all()
        assert b"".join(texts(found)) == b"something"
        assert len(unreadable) == 1
        assert unreadable[0].startswith(f"{tmp_path}/a.txt")
        assert unreadable[0].endswith("is empty; remove it, or write something")


def test_the_files_of_a_folder_are_items_and_its_folders_labels(tmp_path: Path):
    for name in ("prose/a.txt", "verse/b.txt", "verse/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text of\n{name}\n")
    (tmp_path / "verse" / "notes.md").write_text("no text file")
    found, _ = config(tmp_path).open_all()
    assert [found.id(i) for i in range(3)] == ["prose/a.txt", "verse/b.txt", "verse/c.txt"]
    assert found.labels == ("prose", "verse")
    assert [found.example(i).label for i in range(3)] == [0, 1, 1]
    pieces, _ = config(tmp_path, chunk=8).open_all()
    assert pieces.labels == ("prose", "verse")
    assert pieces.id(0) == "prose/a.txt/0"
    assert b"".join(texts(pieces)) == b"".join(texts(found))


def test_the_strings_of_a_table_are_items(tmp_path: Path):
    path = tmp_path / "table.parquet"
    columns = {"text": [*STRANGE, None], "label": ["x", "y"] * 4, "n": range(8)}
    pq.write_table(pa.table(columns), path)
    found, unreadable = config(path).open_all()
    assert [text.decode() for text in texts(found)] == STRANGE
    assert unreadable == (f"{path} row 7 is null; store a text in every row",)
    assert found.labels == ("x", "y")
    assert texts(config(path, column="label").open_all()[0])[:2] == [b"x", b"y"]
    with pytest.raises(ValueError, match=r"no column 'n' of texts.* set data.column"):
        config(path, column="n").open_all()
    with pytest.raises(ValueError, match=r"data.chunk is 8, but .* is a table"):
        config(path, chunk=8).open_all()


def test_two_columns_of_strings_are_one_too_many(tmp_path: Path):
    pq.write_table(pa.table({"a": ["x"], "b": ["y"]}), tmp_path / "t.parquet")
    with pytest.raises(ValueError, match=r"\(of texts: a, b\); set data.column to one"):
        config(tmp_path / "t.parquet").open_all()


def test_files_named_train_and_test_are_splits(tmp_path: Path):
    (tmp_path / "train.txt").write_text("a\nb\nc\n")
    (tmp_path / "test.txt").write_text("d\n")
    (tmp_path / "README.md").write_text("what this is")
    splits = config(tmp_path).open()
    assert texts(splits.train) == [b"a\n", b"b\n", b"c\n"]
    assert texts(splits.evaluation) == [b"d\n"]
    (tmp_path / "other.txt").write_text("e\n")  # now they are three texts
    splits = config(tmp_path).open()
    assert len(splits.train) + len(splits.evaluation) == 3


def test_a_tenth_of_the_lines_is_held_out_and_none_is_in_both(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"line {i}\n" for i in range(50)))
    splits = config(path).open(folder=tmp_path / "run")
    assert (len(splits.train), len(splits.evaluation)) == (45, 5)
    both = texts(splits.train) + texts(splits.evaluation)
    assert sorted(both) == sorted(path.read_bytes().splitlines(keepends=True))
    path.write_text("other lines\n" * 50)
    with pytest.raises(ValueError, match="data changed since the run began"):
        config(path).open(folder=tmp_path / "run")


def test_training_shifts_a_text_within_a_patch_and_evaluation_does_not(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_text("".join(f"some line {i}\n" for i in range(20)))
    splits = config(path, patch=4).open()
    whole = [BYTES.text(splits.train.example(0).x)]
    found = {BYTES.text(splits.train.example(0, seed).x) for seed in range(40)}
    assert found == {whole[0][shift:] for shift in range(4)}
    assert splits.train.example(0, 7).x.equal(splits.train.example(0, 7).x)
    assert BYTES.text(splits.evaluation.example(0, 5).x) == texts(splits.evaluation)[0]
    still = config(path, patch=4, shift=False).open()
    assert BYTES.text(still.train.example(0, 5).x) == texts(still.train)[0]


def test_examples_go_to_other_processes_and_tell_what_they_are(tmp_path: Path):
    path = tmp_path / "lines.txt"
    path.write_bytes("".join(STRANGE).encode())
    found, _ = config(path).open_all()
    assert texts(pickle.loads(pickle.dumps(found))) == texts(found)
    others = (config(path, patch=4), config(path, chunk=16))
    prints = {each.open_all()[0].fingerprint for each in (config(path), *others)}
    assert len(prints) == 3


def test_what_is_not_there_is_said(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"is not there; name a folder of texts"):
        config(tmp_path / "none.txt").open_all()
    (tmp_path / "a.pdf").write_text("x")
    with pytest.raises(ValueError, match=r"a.pdf is no data that can be read; name a folder of"):
        config(tmp_path / "a.pdf").open_all()
    with pytest.raises(ValueError, match=r"has no texts: it holds 1 other files"):
        config(tmp_path).open_all()
    with pytest.raises(ValidationError):
        config(tmp_path, chunk=3)
    assert TEXTS.items == "texts"
