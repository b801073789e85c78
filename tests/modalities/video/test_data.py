"""What must hold for finding clips, and for what training cuts out of them."""

import pickle
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from numpy.testing import assert_array_equal
from tests.modalities.video.clips import film_file, make_clips, pan, pillow_file, write_frames
from tests.modalities.video.test_decoding import BAD
from torch import Tensor

from vqkit.modalities.video import VideoDataConfig, VideoExamples
from vqkit.modalities.video.source import natural


def options(path: Path, **more: object) -> VideoDataConfig:
    return VideoDataConfig(path=str(path), cache_mb=1, **more)  # pyright: ignore


def opened(path: Path, **more: object) -> VideoExamples:
    return options(path, **more).open_all()[0]


def ids(found: VideoExamples) -> list[str]:
    return [found.id(i) for i in range(len(found))]


def test_films_and_folders_of_frames_are_clips_and_images_beside_films_are_stills(tmp_path: Path):
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "a.mkv").write_bytes(film_file(pan(0, 3)))
    (tmp_path / "cats" / "b.png").write_bytes(pillow_file(pan(1, 1), "PNG"))
    write_frames(tmp_path / "dogs" / "c", pan(2, 12))
    write_frames(tmp_path / "dogs" / "d" / "e", pan(3, 2), "bmp")
    found = opened(tmp_path)
    assert ids(found) == ["cats/a.mkv", "cats/b.png", "dogs/c", "dogs/d/e"]
    assert found.labels == ("cats", "dogs")
    assert [found.example(i).label for i in range(4)] == [0, 0, 1, 1]
    for number, length in enumerate((3, 1, 12, 2)):
        assert_array_equal(found.example(number).x.numpy(), pan(number, length))
    assert found.describe(2) == f"{tmp_path}/dogs/c"


def test_frames_come_in_the_order_of_their_numbers():
    names = ["frame10.png", "frame9.png", "frame1.png", "b2/a11.png", "a.png", "b2/a2.png"]
    ordered = ["a.png", "b2/a2.png", "b2/a11.png", "frame1.png", "frame9.png", "frame10.png"]
    assert sorted(names, key=natural) == ordered


def test_a_folder_of_images_is_one_clip_and_its_images_clips_if_they_are_stills(tmp_path: Path):
    folder = write_frames(tmp_path / "clip", pan(0, 3))
    found = opened(folder)
    assert ids(found) == ["clip"]
    assert found.labels == ()
    assert_array_equal(found.example(0).x.numpy(), pan(0, 3))
    stills = opened(folder, images="stills")
    assert ids(stills) == ["0.png", "1.png", "2.png"]
    assert_array_equal(stills.example(1).x.numpy(), pan(0, 3)[:, 1:2])
    one = opened(folder / "2.png")
    assert_array_equal(one.example(0).x.numpy(), pan(0, 3)[:, 2:])


def test_clips_have_names_of_their_own_whatever_the_folders_are_called(tmp_path: Path):
    folder = write_frames(tmp_path / "a", pan(0, 3))
    write_frames(folder / "a", pan(1, 2))
    assert ids(opened(folder)) == ["a", "a-"]


def test_a_parquet_file_of_bytes_is_read_as_the_folder_is(tmp_path: Path):
    clips = [film_file(pan(0, 3)), pillow_file(pan(1, 4), "PNG"), pillow_file(pan(2, 1), "PNG")]
    rows = [{"bytes": data, "path": str(i)} for i, data in enumerate(clips)]
    pq.write_table(pa.table({"video": rows, "label": [0, 1, 0]}), tmp_path / "clips.parquet")
    found = opened(tmp_path / "clips.parquet")
    for i, length in enumerate((3, 4, 1)):
        assert_array_equal(found.example(i).x.numpy(), pan(i, length))
    assert found.labels == ("0", "1")


def test_splits_inside_a_folder_are_found_and_their_classes_are_joined(tmp_path: Path):
    for part, name in (("train", "cats"), ("train", "dogs"), ("val", "dogs"), ("val", "owls")):
        write_frames(tmp_path / part / name / "x", pan(0, 2))
    splits = options(tmp_path).open()
    assert splits.train.labels == splits.evaluation.labels == ("cats", "dogs", "owls")
    assert [splits.train.example(i).label for i in range(2)] == [0, 1]
    assert [splits.evaluation.example(i).label for i in range(2)] == [1, 2]
    assert ids(splits.evaluation) == ["dogs/x", "owls/x"]


def test_bad_clips_are_listed_with_their_reason_and_left_out(tmp_path: Path):
    make_clips(tmp_path, 6)
    for name, (make, _) in BAD.items():
        (tmp_path / "china" / name).write_bytes(make())
    write_frames(tmp_path / "flower" / "uneven", pan(0, 2))
    (tmp_path / "flower" / "uneven" / "2.png").write_bytes(pillow_file(pan(0, 1, (9, 8)), "PNG"))
    found, lines = options(tmp_path, size=8).open_all()
    assert len(found) == 7
    assert len(lines) == len(BAD) + 1
    for name in BAD:
        assert any(line.startswith(f"{tmp_path}/china/{name} ") for line in lines)
    assert (
        f"{tmp_path}/flower/uneven has a frame 3 of 9 x 8, the first 8 x 8; make them" in lines[-1]
    )
    with pytest.raises(ValueError, match=f"{len(lines)} of {7 + len(lines)} items cannot be read"):
        options(tmp_path, size=8, strict=True).open_all()


def test_a_folder_without_clips_says_what_is_there_and_what_to_do(tmp_path: Path):
    with pytest.raises(ValueError, match="has no clips: it holds no files; put clips into it"):
        opened(tmp_path)
    (tmp_path / "notes.txt").write_text("none")
    with pytest.raises(ValueError, match=r"1 other files \(1 .txt\); clip files end in .apng"):
        opened(tmp_path)
    with pytest.raises(FileNotFoundError, match="is not there; name a folder of clips"):
        opened(tmp_path / "nowhere")


def test_clips_of_unequal_sizes_need_a_size(tmp_path: Path):
    for number, size in enumerate(((8, 8), (8, 12))):
        write_frames(tmp_path / str(number), pan(number, 2, size))
    with pytest.raises(ValueError, match=r"0 is 8 x 8, .*1 is 8 x 12\); set data.size"):
        opened(tmp_path)
    found = opened(tmp_path, size=(4, 6))
    assert {tuple(found.example(i).x.shape) for i in range(2)} == {(3, 2, 4, 6)}


def where(part: Tensor, whole: Tensor) -> int:
    """Where a part of a clip begins."""
    windows = whole.unfold(1, part.shape[1], 1).movedim(-1, 2)  # (C, starts, frames, H, W)
    return int((windows == part.unsqueeze(1)).flatten(2).all(2).all(0).nonzero()[0])


def test_training_cuts_frames_at_random_and_evaluation_takes_the_whole(tmp_path: Path):
    for number in range(4):
        write_frames(tmp_path / str(number), pan(number + 2, 30))
    splits = options(tmp_path, frames=5, eval_fraction=0.5).open()
    whole = splits.train.example(0).x
    cuts = [splits.train.example(0, seed).x for seed in range(60)]
    assert all(cut.shape == (3, 5, 8, 8) for cut in cuts)
    assert len({where(cut, whole) for cut in cuts}) > 15
    assert cuts[7].equal(splits.train.example(0, 7).x)
    assert splits.evaluation.example(0, 7).x.shape[1] == 30
    assert options(tmp_path, frames=99).open().train.example(0, 3).x.shape[1] == 30
    assert options(tmp_path, frames=None).open().train.example(0, 3).x.shape[1] == 30


def test_training_mirrors_about_every_second_clip_as_a_whole(tmp_path: Path):
    for number in range(2):
        write_frames(tmp_path / str(number), pan(number, 3))
    train = options(tmp_path, flip=True).open().train
    whole = train.example(0).x
    found = [train.example(0, seed).x for seed in range(40)]
    mirrored = sum(x.equal(whole.flip(-1)) for x in found)
    assert sum(x.equal(whole) for x in found) + mirrored == 40
    assert 8 < mirrored < 32


@pytest.mark.parametrize(
    "change",
    [{"size": 4}, {"channels": 1}, {"fps": 4}, {"every": 2}, {"frames": 3}, {"max_frames": 2}],
    ids=str,
)
def test_the_fingerprint_changes_with_what_is_made_of_the_clips(
    tmp_path: Path, change: dict[str, object]
):
    for number in range(4):
        write_frames(tmp_path / str(number), pan(number, 3))
    prints = [options(tmp_path, **more).open().train.fingerprint for more in ({}, change, {})]
    assert prints[0] == prints[2] != prints[1]


def test_what_is_kept_in_memory_is_what_is_read_anew(tmp_path: Path):
    make_clips(tmp_path, 5)
    kept, fresh = (VideoDataConfig(path=str(tmp_path), cache_mb=mb).open_all()[0] for mb in (1, 0))
    copy = pickle.loads(pickle.dumps(kept))
    for i in range(len(kept)):
        assert kept.example(i).x.equal(fresh.example(i).x)
        assert copy.example(i).x.equal(fresh.example(i).x)


def test_what_an_example_gives_may_be_written_to(tmp_path: Path):
    found = opened(write_frames(tmp_path / "a", pan(0, 2)))
    found.example(0).x.zero_()
    assert torch.from_numpy(np.array(pan(0, 2))).equal(found.example(0).x)
