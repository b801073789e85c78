"""What must hold for clips as files, pictures and media."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.modalities.video.clips import clips

from vqkit.modalities.image.fit import Framing
from vqkit.modalities.video import VideoModality
from vqkit.modalities.video.decoding import Form, decode_clip

KIND = VideoModality(8, 3)


def read(data: bytes, channels: int = 3) -> torch.Tensor:
    form = Form(Framing(None, "crop", False, channels))
    return torch.from_numpy(decode_clip(data, form).levels)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("num_frames", [1, 2, 9])
def test_a_written_clip_is_read_back_to_the_last_bit(
    tmp_path: Path, num_frames: int, channels: int
):
    x = clips(1, num_frames, (7, 9), channels)[0]
    KIND.save(tmp_path / "a.apng", x)
    data = (tmp_path / "a.apng").read_bytes()
    assert read(data, channels).equal(x)
    KIND.save(tmp_path / "b.apng", x)
    assert (tmp_path / "b.apng").read_bytes() == data
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.apng", "b.apng"]


def test_frames_that_are_equal_stay_apart(tmp_path: Path):
    x = clips(1, 3)[0][:, [0, 0, 1, 1, 1, 2, 2]]
    KIND.save(tmp_path / "a.apng", x)
    assert read((tmp_path / "a.apng").read_bytes()).equal(x)


@pytest.mark.parametrize("fps", [8, 29.97, 0.5, 1000, 23.976])
def test_each_frame_is_shown_for_its_time(tmp_path: Path, fps: float):
    VideoModality(fps).save(tmp_path / "a.apng", clips(1, 3)[0])
    with Image.open(tmp_path / "a.apng") as file:
        for index in range(3):
            file.seek(index)
            assert file.info["duration"] == pytest.approx(1000 / fps, rel=1e-3)


def test_films_of_such_files_are_read_by_others(tmp_path: Path):
    import av

    x = clips(1, 5)[0]
    KIND.save(tmp_path / "a.apng", x)
    with av.open(tmp_path / "a.apng") as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
    assert np.array_equal(np.stack(frames).transpose(3, 0, 1, 2), x.numpy())


def test_stored_clips_are_rounded_and_cut_to_the_range():
    x = torch.tensor([-2.0, -1, 0.001, 1, 3]).view(1, 1, 5, 1, 1)
    assert KIND.stored(x).flatten().tolist() == [0, 0, 128, 255, 255]
    assert KIND.stored(KIND.stored(x)).equal(KIND.stored(x))


@pytest.mark.parametrize("num_frames", [1, 2, 3, 4, 5, 30])
def test_pictures_have_one_size_whatever_the_length(num_frames: int):
    x = clips(2, num_frames)
    found = KIND.pictures(x)
    assert found is not None
    assert found.shape == (2, 3, 18, 18)
    assert found[..., :8, :8].equal(x[:, :, 0])
    last = [(slice(8), slice(8)), (slice(8), slice(10, 18)), (slice(10, 18), slice(8))]
    last.append((slice(10, 18), slice(10, 18)))
    assert found[(..., *last[min(num_frames, 4) - 1])].equal(x[:, :, -1])
    if num_frames < 4:
        assert (found[..., 10:, 10:] == 255).all()


def test_other_channels_have_no_pictures():
    assert KIND.pictures(torch.zeros(1, 2, 3, 8, 8)) is None


def test_a_page_shows_the_clip_moving_and_large():
    x = clips(1, 5)[0]
    media = KIND.media(x)
    assert (media.kind, media.mime) == ("image", "image/apng")
    assert read(media.data)[:, :, ::16, ::16].equal(x)
    with Image.open(io.BytesIO(media.data)) as file:
        assert file.n_frames == 5  # pyright: ignore


def test_bits_for_each_pixel_follow_from_bits_for_each_value():
    found = KIND.rates({"code_bits_per_dim_uniform": 0.5, "code_bits_per_dim_prior": 0.25})
    assert found == {"bits_per_pixel": 1.5, "bits_per_pixel_prior": 0.75}
