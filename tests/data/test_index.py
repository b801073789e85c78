"""The index pass, what it keeps, and what it refuses."""

import errno
import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.data.files import write_folder
from torch import distributed as dist
from torch import multiprocessing

from vqkit.data import Index, Source, build_index, open_index, open_source, survey
from vqkit.data.survey import CHUNK


@pytest.fixture
def source(tmp_path: Path) -> Source:
    """Three images, the second of them empty."""
    path = write_folder(tmp_path / "data", ["a.png", "b.png", "c.png"])
    (path / "b.png").write_bytes(b"")
    return open_source(str(path))


def sizes(source: Source):
    """Measures the bytes of an item."""

    def measure(index: int) -> tuple[int, ...]:
        data = source[index].value
        if not data:
            raise ValueError("is empty;\nremove it")
        return (len(data), index)

    return measure


def test_every_item_is_read_once_and_what_cannot_be_read_has_a_reason(source: Source):
    seen: list[int] = []

    def measure(index: int) -> tuple[int, ...]:
        seen.append(index)
        return sizes(source)(index)

    index = build_index(source, measure)
    assert sorted(seen) == [0, 1, 2]
    assert index.num_items == 3
    assert index.unreadable == {1: "is empty; remove it"}
    assert index.readable() == [0, 2]
    assert index.shapes == ((len(source[0].value), 0), (), (len(source[2].value), 2))
    assert index.lines(source) == [f"{source.describe(1)} is empty; remove it"]


def test_a_file_that_went_away_has_a_reason_too(source: Source, tmp_path: Path):
    (tmp_path / "data" / "c.png").unlink()
    index = build_index(source, sizes(source))
    assert index.unreadable[2].startswith("cannot be read (No such file")


def test_threads_keep_the_order(tmp_path: Path):
    count = 40 * CHUNK + 3
    source = open_source(str(write_folder(tmp_path, ["a.png"])))

    class Many(type(source)):
        def __len__(self) -> int:
            return count

    source.__class__ = Many
    index = build_index(source, lambda number: (number % 7,))
    assert index.shapes == tuple((number % 7,) for number in range(count))


def test_too_few_file_handles_are_not_taken_for_a_bad_file(source: Source):
    def measure(index: int) -> tuple[int, ...]:
        raise OSError(errno.EMFILE, "Too many open files")

    with pytest.raises(OSError, match="Too many open files"):
        build_index(source, measure)


def test_an_error_of_ours_is_not_taken_for_a_bad_file(source: Source):
    def measure(index: int) -> tuple[int, ...]:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build_index(source, measure)


SHAPES = st.lists(st.lists(st.integers(1, 10**6), max_size=3).map(tuple), max_size=20)


@settings(deadline=None, max_examples=8)
@given(shapes=SHAPES, bad=st.dictionaries(st.integers(0, 2), st.text(max_size=5), max_size=2))
def test_an_index_is_the_same_after_it_was_kept(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, ...]], bad: dict
):
    folder = tmp_path_factory.mktemp("kept")
    source = open_source(str(write_folder(folder, ["a.png", "b.png", "c.png"])))
    index = Index(len(shapes), "f00d", bad, tuple(shapes))
    index.save(folder / "index.json", source)
    assert Index.load(folder / "index.json") == index


def test_the_kept_index_names_the_unreadable_files(source: Source, tmp_path: Path):
    build_index(source, sizes(source)).save(tmp_path / "index.json", source)
    kept = json.loads((tmp_path / "index.json").read_text())
    assert kept["unreadable"] == {
        "1": {"where": source.describe(1), "reason": "is empty; remove it"}
    }


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"format": 2}', '{"format": 1}', '{"format": 1, "shapes": 3}']
)
def test_a_damaged_index_is_one_line(tmp_path: Path, text: str):
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index.json .*; remove it, it is made anew$") as caught:
        Index.load(tmp_path / "index.json")
    assert "\n" not in str(caught.value)


def test_a_run_reads_the_data_once(source: Source, tmp_path: Path):
    file = tmp_path / "run" / "index.json"
    first = open_index(source, sizes(source), file=file, where="data")

    def never(index: int) -> tuple[int, ...]:
        raise AssertionError

    assert open_index(source, never, file=file, where="data") == first
    shutil.copytree(tmp_path / "data", tmp_path / "copy", copy_function=shutil.copyfile)
    copy = open_source(str(tmp_path / "copy"))
    assert open_index(copy, never, file=file, where="data") == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("more", r"data changed since the run began: photos had 3 items and has 4; restore it"),
        ("contents", r"data changed since the run began: photos has other .*; restore it, or"),
        ("repaired", r"data changed since the run began: photos has other .* new run"),
    ],
)
def test_data_that_changed_stop_the_run(source: Source, tmp_path: Path, change: str, message: str):
    file = tmp_path / "index.json"
    open_index(source, sizes(source), file=file, where="photos")
    if change == "more":
        write_folder(tmp_path / "data", ["d.png"])
    elif change == "contents":
        shutil.copyfile(tmp_path / "data" / "a.png", tmp_path / "data" / "c.png")
    else:
        shutil.copyfile(tmp_path / "data" / "a.png", tmp_path / "data" / "b.png")
    now = open_source(str(tmp_path / "data"))
    with pytest.raises(ValueError, match=message):
        open_index(now, sizes(now), file=file, where="photos")


def test_strict_refuses_what_is_left_out_otherwise(source: Source, tmp_path: Path):
    file = tmp_path / "index.json"
    with pytest.raises(
        ValueError, match=r"1 of 3 items cannot be read; the first: .*b.png is empty"
    ):
        open_index(source, sizes(source), file=file, where="data", strict=True)
    assert not file.exists()


def test_data_of_which_nothing_can_be_read_are_refused(source: Source, tmp_path: Path):
    for name in "ac":
        (tmp_path / "data" / f"{name}.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"3 of 3 items cannot be read; the first: .*a.png is em"):
        open_index(source, sizes(source), file=None, where="data")


def test_arrays_are_measured_once(tmp_path: Path):
    np.save(tmp_path / "a.npy", np.zeros((1000, 4, 5), np.uint8))
    source = open_source(str(tmp_path / "a.npy"))
    seen: list[int] = []

    def measure(index: int) -> tuple[int, ...]:
        seen.append(index)
        return (4, 5)

    index = open_index(source, measure, file=None, where="data")
    assert seen == [0]
    assert index.shapes == ((4, 5),) * 1000


def on_two_ranks(rank: int, folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    survey.BEAT_S = 0.05
    source = open_source(str(folder / "data"))

    def measure(index: int) -> tuple[int, ...]:
        assert rank == 0
        time.sleep(0.2)  # several beats
        return sizes(source)(index)

    index = open_index(source, measure, file=folder / "index.json", where="data")
    index.save(folder / f"{rank}.json", source)
    try:
        open_index(source, measure, file=None, where="data", strict=True)
    except ValueError as error:
        (folder / f"{rank}.txt").write_text(str(error))
    dist.destroy_process_group()


@pytest.mark.slow
def test_one_rank_reads_and_all_get_the_index_or_the_error(source: Source, tmp_path: Path):
    multiprocessing.spawn(on_two_ranks, (tmp_path,), nprocs=2)
    indexes = [Index.load(tmp_path / f"{rank}.json") for rank in range(2)]
    assert indexes[0] == indexes[1] == Index.load(tmp_path / "index.json")
    errors = [(tmp_path / f"{rank}.txt").read_text() for rank in range(2)]
    assert errors[0] == errors[1]
    assert "1 of 3 items cannot be read" in errors[0]
