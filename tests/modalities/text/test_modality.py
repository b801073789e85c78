"""What is written and shown of texts."""

from pathlib import Path

import pytest
import torch
from tests.modalities.text.texts import items

from vqkit.modalities.text import TEXT
from vqkit.modalities.text.symbols import BYTES, Symbols, byte_symbols, padded_length


def test_texts_are_written_one_after_another(tmp_path: Path):
    TEXT.save_all(tmp_path / "all.txt", iter(items(4)))
    from tests.modalities.text.texts import WORDS

    assert (tmp_path / "all.txt").read_bytes() == "".join(WORDS).encode()
    TEXT.save(tmp_path / "one.txt", items(4)[4])
    assert (tmp_path / "one.txt").read_bytes() == "ä".encode()


def test_ends_are_nothing_wherever_they_are():
    x = torch.tensor([[0, *(byte_symbols(b"a").tolist()), 0, *(byte_symbols(b"b").tolist()), 0]])
    assert TEXT.media(x).data == b"ab"
    assert TEXT.num_dims(x.unsqueeze(0)).tolist() == [2]


def test_a_dimension_is_a_byte():
    x = torch.stack([BYTES.item(byte_symbols(text), 4) for text in (b"abcde", b"abcdefgh")])
    assert TEXT.num_dims(x).tolist() == [5, 8]
    assert TEXT.stored(x.long()).dtype == torch.int16
    assert TEXT.pictures(x) is None


def test_tables_of_symbols_come_back():
    symbols = Symbols([b"", b"a", b"", b"long"])
    joined = torch.frombuffer(bytearray(symbols.joined), dtype=torch.uint8)
    assert Symbols.of(joined, symbols.lengths).table == symbols.table
    assert symbols.dtype == torch.int16
    assert Symbols([b"", *[b"x"] * 2**15]).dtype == torch.int32


def test_lengths_are_multiples_and_at_least_one():
    assert [padded_length(n, 4) for n in (0, 1, 4, 5, 8)] == [4, 4, 4, 8, 8]


def test_what_a_classifier_gets_are_shares_of_symbols():
    x = torch.stack([BYTES.item(byte_symbols(text), 4) for text in (b"aab", b"b")])
    found = TEXT.raw_features(x)
    assert found.shape == (2, 257)
    assert found[0, 1 + ord("a")].item() == pytest.approx(2 / 3)
    assert found[1, 1 + ord("b")] == 1
    assert (found[:, 0] == 0).all()
