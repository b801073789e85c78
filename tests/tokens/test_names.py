"""What must hold for the file names of items."""

from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqkit.tokens.names import file_names

PARTS = st.sampled_from(["..", ".", "", "/", "\\", "a", "A", "a.png", "ü", "\0", "\n", "C:", "~"])
IDS = st.lists(st.one_of(st.text(max_size=300), st.lists(PARTS).map("/".join)), max_size=20)


@pytest.mark.parametrize(
    ("id", "name"),
    [
        ("7", "7.png"),
        ("cat/0001.jpg", "cat/0001.png"),
        ("../../x", "x.png"),
        ("/etc/passwd", "etc/passwd.png"),
        ("C:\\photos\\a.bmp", "C__photos_a.png"),
        ("hat/latin\\xe9.png", "hat/latin_xe9.png"),
        ("new\\nline.png", "new_nline.png"),
        ("..", "_.png"),
        ("", "_.png"),
        (".hidden", "hidden.png"),
        ("a\0b\nc*d?.png", "a_b_c_d_.png"),
        ("münchen (1).webp", "münchen (1).png"),
        ("v1.0/a.b.png", "v1_0/a.b.png"),
    ],
)
def test_an_id_becomes_a_name_that_a_person_recognises(id: str, name: str):
    assert list(file_names([id], ".png")) == [PurePosixPath(name)]


def test_equal_names_get_their_numbers():
    ids = ["a.png", "a.jpg", "A", "a-1", "b", "../a"]
    names = [str(name) for name in file_names(ids, ".png")]
    assert names == ["a.png", "a-1.png", "A-2.png", "a-1-3.png", "b.png", "a-5.png"]


@settings(deadline=None)
@given(IDS)
def test_no_two_items_share_a_file_and_none_leaves_the_folder(ids: list[str]):
    names = list(file_names(ids, ".png"))
    assert len({str(name).casefold() for name in names}) == len(ids)
    for name in names:
        assert not name.is_absolute()
        assert name.suffix == ".png"
        assert not {"..", ".", ""} & set(name.parts)
        assert all(len(part.encode()) < 200 for part in name.parts)
        assert (Path("/out") / name).resolve().is_relative_to("/out")
        assert all(parent not in names for parent in name.parents)  # no file is a folder too
