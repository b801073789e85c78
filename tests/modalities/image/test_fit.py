"""Images of any size become canvases that the wanted window fits into."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.data.files import picture

from vqkit.modalities.image.fit import MAX_EXCESS, Framing, Resize, fit

SIDES = st.integers(1, 60)


def framing(window, resize: Resize = "crop", slack: bool = False) -> Framing:
    return Framing(window, resize, slack, 3)


@settings(deadline=None, max_examples=80)
@given(
    size=st.tuples(SIDES, SIDES),
    window=st.none() | st.tuples(SIDES, SIDES),
    resize=st.sampled_from(["crop", "stretch", "pad", "none"]),
    slack=st.booleans(),
)
def test_every_image_gives_a_canvas_that_holds_the_window(size, window, resize, slack: bool):
    frame = framing(window, resize, slack)
    canvas = fit(picture(0, *size), frame)
    assert canvas.dtype == np.uint8
    assert canvas.shape[0] == 3
    assert canvas.flags.c_contiguous
    assert np.array_equal(canvas, fit(picture(0, *size), frame))
    if window is None:
        assert np.array_equal(canvas, picture(0, *size).transpose(2, 0, 1))
        return
    assert canvas.shape[1] >= window[0]
    assert canvas.shape[2] >= window[1]
    if not slack or resize in ("stretch", "pad"):
        assert canvas.shape[1:] == window
    if resize == "crop" and slack:  # the shorter side fits, the longer is bounded
        excess = canvas.shape[1] / window[0], canvas.shape[2] / window[1]
        assert min(excess) == 1
        assert max(excess) <= MAX_EXCESS


@pytest.mark.parametrize("resize", ["crop", "stretch", "pad", "none"])
@pytest.mark.parametrize("slack", [False, True])
def test_an_image_of_the_right_size_is_kept_bit_for_bit(resize: Resize, slack: bool):
    pixels = picture(0, 6, 9)
    assert np.array_equal(fit(pixels, framing((6, 9), resize, slack)), pixels.transpose(2, 0, 1))


def test_the_middle_is_cut_out():
    pixels = picture(0, 10, 12)
    assert np.array_equal(fit(pixels, framing((4, 4), "none")), pixels[3:7, 4:8].transpose(2, 0, 1))
    assert np.array_equal(
        fit(pixels, framing((10, 10), "crop")), pixels[:, 1:11].transpose(2, 0, 1)
    )


def test_unscaled_canvases_for_random_crops_are_whole_images():
    pixels = picture(0, 10, 12)
    whole = fit(pixels, framing((4, 4), "none", slack=True))
    assert np.array_equal(whole, pixels.transpose(2, 0, 1))


def test_padding_is_black_and_on_both_sides():
    canvas = fit(np.full((4, 8, 3), 200, np.uint8), framing((8, 8), "pad"))
    assert (canvas[:, 2:6] == 200).all()
    assert not canvas[:, :2].any()
    assert not canvas[:, 6:].any()


@pytest.mark.parametrize("resize", ["crop", "none"])
def test_images_smaller_than_the_window_are_scaled_up_to_cover_it(resize: Resize):
    canvas = fit(np.full((2, 3, 3), 77, np.uint8), framing((8, 8), resize))
    assert (canvas == 77).all()


def smooth(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    waves = np.stack([np.sin(y / 9), np.cos(x / 11), np.sin((x + y) / 13)], axis=2)
    return np.rint(127.5 + 120 * waves).astype(np.uint8)


@pytest.mark.parametrize("size", [(16, 24), (96, 130), (40, 31), (7, 2), (1, 7)])
def test_scaling_is_that_of_float_arithmetic(size: tuple[int, int]):
    pixels = smooth(64, 80)
    found = fit(pixels, framing(size, "stretch")).astype(float)
    exact = torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0).double()
    exact = F.interpolate(exact, size, mode="bicubic", antialias=True)[0].clamp(0, 255)
    assert np.abs(found - exact.numpy()).max() <= 1.5


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(SIDES, SIDES), window=st.tuples(SIDES, SIDES), channels=st.sampled_from([1, 3])
)
def test_scaling_is_that_of_pillow(size, window, channels: int):
    pixels = smooth(*size)[:, :, :channels]
    found = fit(pixels, framing(window, "stretch")).astype(float)
    image = Image.fromarray(pixels if channels == 3 else pixels[:, :, 0])
    scaled = np.asarray(image.resize(window[::-1], Image.Resampling.BICUBIC), dtype=float)
    assert np.abs(found - scaled.reshape(*window, -1).transpose(2, 0, 1)).max() <= 4


def test_a_fine_pattern_becomes_grey_and_not_an_alias():
    board = np.indices((64, 64)).sum(0) % 2 * 255
    pixels = np.repeat(board.astype(np.uint8)[:, :, None], 3, axis=2)
    canvas = fit(pixels, framing((16, 16)))
    assert np.abs(canvas[:, 2:-2, 2:-2] - 127.5).max() < 3


def test_only_what_is_scaled_down_anyway_may_be_decoded_at_a_fraction():
    assert framing((30, 40), "crop").enough == 40
    assert framing((30, 40), "none").enough is None
    assert framing((30, 40), "crop", slack=True).enough is None
    assert framing(None).enough is None


def test_extreme_shapes_stay_small():
    canvas = fit(np.zeros((1, 20_000, 3), np.uint8), framing((64, 64), "crop", slack=True))
    assert canvas.shape == (3, 64, 64 * MAX_EXCESS)
