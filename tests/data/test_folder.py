"""Folders of images."""

import os
import shutil
from pathlib import Path

import pytest
from tests.data.files import encoded, picture, write_folder

from vqkit.data import open_source


def ids(path: Path) -> list[str]:
    source = open_source(str(path))
    return [source.id(index) for index in range(len(source))]


def test_sub_folders_are_labels_and_relative_paths_are_names(tmp_path: Path):
    write_folder(tmp_path, ["dogs/1.png", "cats/1.png", "cats/kittens/2.PNG"])
    source = open_source(str(tmp_path))
    assert source.labels == ("cats", "dogs")
    assert ids(tmp_path) == ["cats/1.png", "cats/kittens/2.PNG", "dogs/1.png"]
    assert [source.label(index) for index in range(3)] == [0, 0, 1]
    record = source[2]
    assert (record.id, record.label) == ("dogs/1.png", 1)
    assert record.value == encoded(picture(0))
    assert source.describe(2) == f"{tmp_path}/dogs/1.png"


def test_images_beside_sub_folders_have_no_labels(tmp_path: Path):
    source = open_source(str(write_folder(tmp_path, ["a.png", "cats/1.png"])))
    assert source.labels == ()
    assert source[1].label is None


def test_the_order_is_that_of_the_paths_whatever_the_order_of_writing(tmp_path: Path):
    names = ["b/1.png", "a b/1.png", "a/2.png", "a/10.png", "ä/1.png"]
    first, second = write_folder(tmp_path / "1", names), write_folder(tmp_path / "2", names[::-1])
    assert ids(first) == ids(second) == sorted(names)


def test_hidden_and_other_files_are_skipped(tmp_path: Path):
    write_folder(tmp_path, ["a.png", ".b.png", ".cache/c.png", "__MACOSX/._d.png"])
    (tmp_path / "notes.txt").write_text("hello")
    assert ids(tmp_path) == ["a.png"]


def test_links_are_followed_but_not_in_circles(tmp_path: Path):
    write_folder(tmp_path / "far", ["x/1.png"])
    write_folder(tmp_path / "near", ["y/2.png"])
    (tmp_path / "near" / "z").symlink_to(tmp_path / "far")
    (tmp_path / "near" / "y" / "up").symlink_to(tmp_path / "near")
    (tmp_path / "near" / "self").symlink_to(".")
    assert ids(tmp_path / "near") == ["y/2.png", "z/x/1.png"]


def test_names_that_are_no_text_can_still_be_written(tmp_path: Path):
    write_folder(tmp_path, ["a.png"])
    os.rename(os.fsencode(tmp_path) + b"/a.png", os.fsencode(tmp_path) + b"/caf\xe9\n.png")
    assert ids(tmp_path) == ["caf\\xe9\\n.png"]
    source = open_source(str(tmp_path))
    assert source[0].value == encoded(picture(0))
    assert len(source.fingerprint) == 64


def test_a_copy_has_the_same_fingerprint(tmp_path: Path):
    path = write_folder(tmp_path / "1", ["cats/1.png", "dogs/1.png"])
    copy = shutil.copytree(path, tmp_path / "2", copy_function=shutil.copyfile)
    os.utime(copy / "cats" / "1.png", (1, 1))
    assert open_source(str(path)).fingerprint == open_source(str(copy)).fingerprint


@pytest.mark.parametrize("change", ["name", "contents", "more", "fewer"])
def test_a_change_has_another_fingerprint(tmp_path: Path, change: str):
    names = ["cats/1.png", "dogs/1.png", "dogs/2.png"]
    before = open_source(str(write_folder(tmp_path, names))).fingerprint
    file = tmp_path / "dogs" / "1.png"
    if change == "name":
        file.rename(file.with_name("3.png"))
    elif change == "contents":
        data = bytearray(file.read_bytes())
        data[len(data) // 2] ^= 1
        file.write_bytes(data)
    elif change == "more":
        write_folder(tmp_path, ["dogs/3.png"])
    else:
        file.unlink()
    assert open_source(str(tmp_path)).fingerprint != before


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path):
    with pytest.raises(ValueError, match="has no images: it holds no files; put images into it"):
        open_source(str(tmp_path))
    for name in ("a.txt", "b.txt", "c.mp4", "README"):
        (tmp_path / name).write_text("")
    with pytest.raises(ValueError, match=r"4 other files \(2 .txt, 1 .*without an ending") as found:
        open_source(str(tmp_path))
    assert "image files end in .avif" in str(found.value)


def test_a_folder_has_no_columns(tmp_path: Path):
    write_folder(tmp_path, ["a.png"])
    with pytest.raises(ValueError, match=r"column is 'image', but .* has no columns; leave column"):
        open_source(str(tmp_path), column="image")
    with pytest.raises(ValueError, match=r"label_column is 'kind', but .* leave label_column out"):
        open_source(str(tmp_path), label_column="kind")
