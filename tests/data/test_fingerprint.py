"""Names for the contents of files."""

from pathlib import Path

import pytest

from vqkit.data import fingerprint
from vqkit.data.fingerprint import fingerprint_files


def files(folder: Path, **contents: bytes) -> dict[str, Path]:
    for name, data in contents.items():
        (folder / name).write_bytes(data)
    return {name: folder / name for name in contents}


def test_the_order_of_the_files_does_not_count_but_facts_do(tmp_path: Path):
    first = files(tmp_path, a=b"1", b=b"2")
    second = dict(reversed(first.items()))
    assert fingerprint_files(first) == fingerprint_files(second)
    assert fingerprint_files(first) != fingerprint_files(first, "column")
    assert fingerprint_files(first, "a", "b") != fingerprint_files(first, "ab")


def test_contents_may_not_move_from_one_file_to_the_next(tmp_path: Path):
    first = fingerprint_files(files(tmp_path, a=b"12", b=b"3"))
    assert first != fingerprint_files(files(tmp_path, a=b"1", b=b"23"))


def test_of_a_large_file_the_ends_and_blocks_between_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fingerprint, "FEWEST", 64)
    monkeypatch.setattr(fingerprint, "BUDGET", 64)
    data = bytearray(10_000)
    seen = set()
    for place in (0, 3, 5_000 - 5_000 % 667, 9_999):
        data[place] ^= 1
        seen.add(fingerprint_files(files(tmp_path, a=bytes(data))))
    assert len(seen) >= 3
    before = fingerprint_files(files(tmp_path, a=bytes(10_000)))
    assert before != fingerprint_files(files(tmp_path, a=bytes(10_001)))


def test_of_very_many_files_all_names_and_sizes_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(fingerprint, "MOST_FILES", 2)
    names = [f"f{number}" for number in range(9)]
    seen = {fingerprint_files(files(tmp_path, **dict.fromkeys(names, b"12")))}
    for name in names:
        changed = dict.fromkeys(names, b"12") | {name: b"123"}
        seen.add(fingerprint_files(files(tmp_path, **changed)))
    assert len(seen) == 10


def test_a_file_that_cannot_be_read_is_part_of_the_data(tmp_path: Path):
    whole = files(tmp_path, a=b"1", b=b"2")
    before = fingerprint_files(whole)
    whole["b"].unlink()
    (tmp_path / "b").symlink_to("nowhere")
    assert before != fingerprint_files(whole) != fingerprint_files({"a": whole["a"]})
