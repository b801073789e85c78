"""What must hold for reading films, animations, images and rows of images."""

import io
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image
from tests.modalities.video.clips import film_file, pan, pillow_file

from vqkit.modalities.image.fit import Framing
from vqkit.modalities.video.decoding import Form, decode_clip, in_time
from vqkit.modalities.video.film import Frame
from vqkit.modalities.video.moving import apng_bytes

RGB, GREY = (Form(Framing(None, "crop", False, channels)) for channels in (3, 1))
CLIP = pan(0, 7, (16, 24))


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_lossless_files_that_pillow_reads_come_back_to_the_last_bit(kind: str):
    clip = CLIP // 32 * 32 if kind == "GIF" else CLIP  # few enough colours for a palette
    if kind == "TIFF":
        clip = clip[:, :1]  # one page: the rest of a TIFF file is no film
    data = pillow_file(clip, kind, **({"lossless": True} if kind == "WEBP" else {}))
    assert_array_equal(decode_clip(data, RGB).levels, clip)


def test_films_come_back_to_the_last_bit_from_lossless_codecs():
    found = decode_clip(film_file(CLIP), RGB)
    assert_array_equal(found.levels, CLIP)
    assert found.size == (16, 24)


@pytest.mark.parametrize(
    ("kind", "codec"),
    [("mp4", "libx264"), ("webm", "libvpx-vp9"), ("avi", "mpeg4"), ("mov", "libx264")],
)
def test_lossy_films_are_read(kind: str, codec: str):
    found = decode_clip(film_file(CLIP, kind, codec), RGB).levels
    assert found.shape == CLIP.shape
    assert np.abs(found.astype(float) - CLIP).mean() < 16


def test_frames_are_scaled_as_images_are():
    form = Form(Framing((8, 8), "crop", False, 3))
    found = decode_clip(film_file(CLIP), form).levels
    assert found.shape == (3, 7, 8, 8)
    one = decode_clip(pillow_file(CLIP[:, 3:4], "PNG"), form).levels
    assert_array_equal(found[:, 3:4], one)


def test_colours_become_grey_as_in_images_and_grey_becomes_colours():
    luma = np.asarray(Image.fromarray(CLIP[:, 2].transpose(1, 2, 0)).convert("L"))
    for data in (film_file(CLIP), apng_bytes(torch.from_numpy(CLIP), 8)):
        assert_array_equal(decode_clip(data, GREY).levels[0, 2], luma)
    data = apng_bytes(torch.from_numpy(CLIP[:1]), 8)
    assert_array_equal(decode_clip(data, GREY).levels, CLIP[:1])
    assert_array_equal(decode_clip(data, RGB).levels, CLIP[[0, 0, 0]])


def test_a_still_image_is_a_clip_of_one_frame():
    for kind in ("PNG", "BMP", "PPM"):
        assert_array_equal(decode_clip(pillow_file(CLIP[:, :1], kind), RGB).levels, CLIP[:, :1])
    assert decode_clip(pillow_file(CLIP[:, :1], "JPEG"), RGB).levels.shape == (3, 1, 16, 24)


def test_transparent_parts_of_animations_show_white():
    levels = np.zeros((2, 8, 8, 4), np.uint8)
    levels[1, :4, :, 3] = 255
    images = [Image.fromarray(each) for each in levels]
    buffer = io.BytesIO()
    images[0].save(buffer, "PNG", save_all=True, append_images=images[1:], blend=0, disposal=1)
    found = decode_clip(buffer.getvalue(), RGB).levels
    assert (found[:, 0] == 255).all()
    assert (found[:, 1, :4] == 0).all()
    assert (found[:, 1, 4:] == 255).all()


def test_films_that_lie_on_their_side_are_turned_upright(tmp_path: Path):
    with av.open(tmp_path / "a.mkv", "w") as file:
        stream = file.add_stream("ffv1", rate=8)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "bgr0"
        stream.set_display_rotation(90)
        pixels = np.ascontiguousarray(CLIP[:, 0].transpose(1, 2, 0))
        file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode())
    found = decode_clip((tmp_path / "a.mkv").read_bytes(), RGB).levels
    assert_array_equal(found[:, 0], np.rot90(CLIP[:, 0], axes=(1, 2)))


def frames_at(*times: float) -> list[Frame]:
    ends = [*times[1:], times[-1] + 0.1]
    both = enumerate(zip(times, ends, strict=True))
    return [Frame(np.full((1, 1, 1), number), start, end) for number, (start, end) in both]


def numbers(frames: list[Frame], fps: float | None) -> list[int]:
    return [int(pixels.item()) for pixels in in_time(frames, fps)]


def test_frames_are_those_that_are_seen_at_the_time():
    even = frames_at(*(0.1 * i for i in range(10)))
    assert numbers(even, None) == list(range(10))
    assert numbers(even, 10) == list(range(10))
    assert numbers(even, 5) == [0, 2, 4, 6, 8]
    assert numbers(even, 20) == [i // 2 for i in range(20)]
    late = frames_at(3.0, 3.1, 3.5, 3.55, 4.0)
    assert numbers(late, 10) == [0, 1, 1, 1, 1, 2, 3, 3, 3, 3, 4]
    assert numbers([Frame(np.zeros((1, 1, 1)))] * 3, 5) == [0, 0, 0]


def test_brute_force_finds_the_same_frames():
    rng = np.random.default_rng(0)
    times = np.cumsum(rng.uniform(0.01, 0.3, 30))
    frames = frames_at(*times)
    for fps in (1, 3.7, 12):
        moments = (np.arange(1000) + 0.05) / fps + times[0]  # times may be rounded so far
        moments = moments[moments < frames[-1].end_s - 1e-9]
        assert numbers(frames, fps) == (np.searchsorted(times, moments, "right") - 1).tolist()


def test_rates_are_those_of_animations_and_films():
    gif = pillow_file(CLIP // 32 * 32, "GIF", duration_ms=[100, 100, 300, 100, 100, 100, 200])
    clip = (CLIP // 32 * 32)[:, [0, 1, 2, 2, 2, 3, 4, 5, 6, 6]]
    form = Form(RGB.framing, fps=10)
    assert_array_equal(decode_clip(gif, form).levels, clip)
    film = film_file(CLIP, times=[0, 10, 20, 50, 60, 70, 80])
    found = decode_clip(film, form).levels
    assert_array_equal(found[:, :8], CLIP[:, [0, 1, 2, 2, 2, 3, 4, 5]])


def test_one_in_so_many_frames_is_kept_and_a_number_at_most():
    data = film_file(CLIP)
    assert_array_equal(decode_clip(data, Form(RGB.framing, every=3)).levels, CLIP[:, ::3])
    assert_array_equal(decode_clip(data, Form(RGB.framing, every=2, most=2)).levels, CLIP[:, :3:2])


def row(*sizes: int) -> tuple[tuple[str, bytes], ...]:
    clips = (pan(0, 1, (8, size)) for size in sizes)
    return tuple((f"{i}.png", pillow_file(clip, "PNG")) for i, clip in enumerate(clips))


def only_sound() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="wav") as file:
        stream = file.add_stream("pcm_s16le", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), layout="mono")
        frame.sample_rate = 8000
        file.mux(stream.encode(frame))
    return buffer.getvalue()


def no_frames() -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="avi") as file:
        stream = file.add_stream("mpeg4", rate=8)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        file.start_encoding()
        file.mux(stream.encode())
    return buffer.getvalue()


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing.mp4": (lambda: b"", "is empty; remove it"),
    "no film.mp4": (lambda: b"neither here nor there" * 20, "is cut or no film"),
    "cut.mp4": (lambda: film_file(CLIP, "mp4", "libx264")[:700], "is cut"),
    "cut.mkv": (lambda: film_file(CLIP)[:3000], "its end is missing"),
    "cut.webm": (lambda: film_file(pan(0, 20), "webm", "libvpx-vp9")[:-300], "is cut"),
    "cut.avi": (lambda: film_file(CLIP, "avi", "mpeg4")[:-4000], "is cut"),
    "cut.gif": (lambda: pillow_file(CLIP, "GIF")[:2000], "is cut or damaged"),
    "cut.png": (lambda: pillow_file(CLIP, "PNG")[:900], "is cut or damaged"),
    "no image.gif": (lambda: b"GIF89a nothing", "is no image that can be read"),
    "no frames.avi": (no_frames, "has no frames; copy it again or remove it"),
    "sound.mov": (only_sound, "holds no picture"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_says_why_on_one_line(name: str):
    make, reason = BAD[name]
    with pytest.raises(ValueError, match=reason) as caught:
        decode_clip(make(), RGB)
    assert "\n" not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_a_film_whose_index_comes_first_is_cut_where_the_index_reaches_beyond(tmp_path: Path):
    path = tmp_path / "a.mp4"
    with av.open(path, "w", options={"movflags": "faststart"}) as file:
        stream = file.add_stream("libx264", rate=8)
        stream.width, stream.height, stream.pix_fmt = 24, 16, "yuv420p"
        for pixels in pan(0, 30, (16, 24)).transpose(1, 2, 3, 0):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    data = path.read_bytes()
    assert decode_clip(data, RGB).levels.shape[1] == 30
    with av.open(path) as file:
        places = [entry.pos for entry in file.streams.video[0].index_entries]
    with pytest.raises(ValueError, match="its end is missing"):
        decode_clip(data[: sorted(places)[20]], RGB)  # between two frames: FFmpeg sees no fault


def test_rows_of_images_name_the_frame_that_is_wrong():
    assert decode_clip(row(8, 8, 8), RGB).levels.shape == (3, 3, 8, 8)
    with pytest.raises(ValueError, match="has a frame 3 of 8 x 9, the first 8 x 8; make them"):
        decode_clip(row(8, 8, 9), RGB)
    with pytest.raises(ValueError, match=r"has a frame, b\.png, that is empty; remove it"):
        decode_clip((*row(8), ("b.png", b"")), RGB)
    with pytest.raises(ValueError, match=r"has a frame, b\.png, that moves; set data\.images="):
        decode_clip((*row(8), ("b.png", pillow_file(CLIP, "PNG"))), RGB)


def test_anything_but_bytes_is_refused():
    with pytest.raises(ValueError, match="holds int; give the bytes"):
        decode_clip(3, RGB)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    data = film_file(CLIP)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ValueError, match=r'pip install "vqkit\[video\]"'):
        decode_clip(data, RGB)
    assert decode_clip(pillow_file(CLIP, "GIF"), RGB).levels.shape == CLIP.shape
