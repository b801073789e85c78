"""Any image becomes 8-bit pixels, or one reason why not."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image, PngImagePlugin
from tests.data.files import encoded, picture

from vqkit.modalities.image.pixels import decode, decode_image

RGB = picture(0, 5, 7)
GREY = RGB[:, :, 0]


def as_rgb(grey: np.ndarray) -> np.ndarray:
    return np.repeat(grey[:, :, None], 3, axis=2)


def test_rgb_is_kept_in_every_lossless_format():
    for kind in ("png", "bmp", "tiff", "ppm"):
        assert np.array_equal(decode_image(encoded(RGB, kind)), RGB)
    assert np.array_equal(decode_image(encoded(RGB, "webp", lossless=True)), RGB)


def test_grey_is_repeated_and_colour_becomes_luma():
    assert np.array_equal(decode_image(encoded(GREY)), as_rgb(GREY))
    assert np.array_equal(decode_image(encoded(GREY), 1), GREY[:, :, None])
    luma = RGB @ np.array([0.299, 0.587, 0.114])
    assert np.abs(decode_image(encoded(RGB), 1)[:, :, 0] - luma).max() <= 1


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_what_is_transparent_shows_white(mode: str, channels: int):
    alpha = np.array([[0, 255], [128, 0]], np.uint8)
    level = np.full((2, 2), 100, np.uint8)
    bands = [level] * (len(mode) - 1) + [alpha]
    image = Image.merge(mode, [Image.fromarray(band) for band in bands])
    expected = np.rint(100 + (255 - 100) * (1 - alpha / 255.0))
    found = decode_image(encoded(image), channels)
    assert found.shape == (2, 2, channels)
    assert np.abs(found - expected[:, :, None]).max() <= 1


@pytest.mark.parametrize("kind", ["png", "gif"])
def test_palettes_become_their_colours_and_their_holes_white(kind: str):
    image = Image.new("P", (3, 1))
    image.putpalette([255, 0, 0, 0, 0, 255, 9, 9, 9])
    image.putdata([0, 1, 2])
    assert decode_image(encoded(image, kind)).tolist() == [[[255, 0, 0], [0, 0, 255], [9, 9, 9]]]
    holed = decode_image(encoded(image, kind, transparency=1))
    assert holed.tolist() == [[[255, 0, 0], [255, 255, 255], [9, 9, 9]]]


def test_a_transparent_colour_of_rgb_shows_white():
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    found = decode_image(encoded(image, transparency=(1, 2, 3)))
    assert found.tolist() == [[[255, 255, 255], [4, 5, 6]]]


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_16_bit_grey_is_scaled_and_not_clipped(kind: str):
    levels = np.array([[0, 128, 129, 257], [300, 32768, 65407, 65535]], np.uint16)
    expected = np.rint(levels / 257).astype(np.uint8)
    assert expected.tolist() == [[0, 0, 1, 1], [1, 128, 255, 255]]
    assert np.array_equal(
        decode_image(encoded(Image.fromarray(levels), kind), 1)[:, :, 0], expected
    )
    assert np.array_equal(decode_image(encoded(Image.fromarray(levels), kind)), as_rgb(expected))
    assert np.array_equal(decode_image(levels), as_rgb(expected))


def test_every_level_of_16_bits_is_rounded_to_the_nearest():
    levels = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(decode_image(levels, 1)[:, :, 0], np.rint(levels / 257))


def test_one_bit_is_black_and_white():
    image = Image.fromarray(np.array([[True, False]]))
    assert decode_image(encoded(image), 1).tolist() == [[[255], [0]]]
    assert decode_image(np.array([[True, False]]), 1).tolist() == [[[255], [0]]]


def test_cmyk_becomes_rgb():
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    red = decode_image(encoded(image, "jpeg", quality=95))
    assert np.abs(red.astype(int) - [255, 0, 0]).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("enough", [None, 4])
def test_images_are_turned_upright(orientation: int, enough: int | None):
    upright = np.zeros((64, 96, 3), np.uint8)
    upright[:32, :48, 0] = 255  # the upper left quarter is red
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, -1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(turns[orientation](upright))
    decoded = decode(encoded(stored, "jpeg", exif=exif, quality=95), enough=enough)
    assert decoded.size == (64, 96)
    height, width = decoded.pixels.shape[:2]
    assert height * 96 == width * 64
    red = decoded.pixels[:, :, 0] > 128
    corners = red[2, 2], red[2, -3], red[-3, 2], red[-3, -3]
    assert corners == (True, False, False, False)


@pytest.mark.filterwarnings("ignore")
def test_exif_that_makes_no_sense_does_not_lose_the_pixels():
    data = encoded(RGB, "png")
    chunk = b"eXIf" + b"II*\0\xff\xff\xff\xff"
    body = struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk))
    place = data.index(b"IDAT") - 4
    assert np.array_equal(decode_image(data[:place] + body + data[place:]), RGB)


@pytest.mark.parametrize("kind", ["gif", "png", "webp", "tiff"])
def test_of_an_animation_the_first_picture_counts(kind: str):
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "webp" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decode_image(data) == [255, 0, 0]).all()


def test_large_jpeg_files_are_decoded_at_a_fraction_but_say_their_size():
    # A smooth picture, so that every way to make it smaller is nearly the same.
    y, x = np.mgrid[:200, :320]
    smooth = np.stack([y, x / 2, (x + y) / 3], axis=2).astype(np.uint8)
    data = encoded(smooth, "jpeg", quality=95)
    whole, part = decode(data), decode(data, enough=20)
    assert whole.size == part.size == (200, 320)
    assert whole.pixels.shape == (200, 320, 3)
    assert part.pixels.shape == (50, 80, 3)
    averaged = whole.pixels.reshape(50, 4, 80, 4, 3).mean((1, 3))
    assert np.abs(part.pixels - averaged).max() < 4
    assert decode(encoded(smooth), enough=20).pixels.shape == (200, 320, 3)  # not of a PNG file


@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 1), (4, 5, 3), (4, 5, 4), (1, 4, 5), (3, 4, 5)])
@pytest.mark.parametrize("channels", [1, 3])
def test_arrays_of_all_layouts_are_images(shape: tuple[int, ...], channels: int):
    array = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    found = decode_image(array, channels)
    assert found.shape == (4, 5, channels)
    if channels == 3 and shape == (3, 4, 5):
        assert np.array_equal(found, array.transpose(1, 2, 0))
    if channels == 1 and array.size == 20:
        assert np.array_equal(found, array.reshape(4, 5, 1))


def test_an_array_with_transparency_is_composited_as_a_file_is():
    array = np.random.default_rng(0).integers(0, 256, (4, 5, 4), dtype=np.uint8)
    assert np.array_equal(decode_image(array), decode_image(encoded(Image.fromarray(array))))


def cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


NOISE = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"", "is empty; remove it or copy it again"),
        (b"hello, I am a text file", "is no image that can be read; remove it"),
        (bytes(1000), "is no image that can be read; remove it"),
        (cut(encoded(NOISE)), "is cut or damaged (image file is truncated"),
        (cut(encoded(NOISE, "jpeg")), "is cut or damaged (image file is truncated"),
        (cut(encoded(NOISE, "webp")), "is "),
        (cut(encoded(NOISE, "gif")), "is cut or damaged"),
        (cut(encoded(NOISE, "tiff", compression="tiff_lzw")), "is "),
        (encoded(NOISE)[:40], "is no image that can be read"),
        (encoded(Image.new("F", (2, 2)), "tiff"), "has floating-point pixels; convert it to 8"),
        (encoded(Image.new("I", (2, 2), -1), "tiff"), "has levels outside 0 to 65535; convert"),
        (None, "holds NoneType; give the bytes of a file"),
        (np.zeros((4, 4)), "has values of float64; store images as uint8"),
        (np.zeros((5, 6, 2), np.uint8), "has shape (5, 6, 2); give images of (H, W)"),
        (np.zeros(4, np.uint8), "has shape (4,); give images"),
        (np.zeros((0, 4), np.uint8), "has shape (0, 4); give images"),
    ],
)
def test_what_is_no_image_has_one_reason(value: object, reason: str):
    with pytest.raises(ValueError, match=r"^(is|has|holds) ") as caught:
        decode_image(value)
    assert str(caught.value).startswith(reason)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "gif", "bmp", "tiff", "ppm"])
def test_no_damage_raises_anything_but_a_reason(kind: str):
    data = encoded(picture(1, 16, 16), kind)
    rng = np.random.default_rng(0)
    for _ in range(100):
        broken = bytearray(data)
        for place in rng.integers(0, len(data), 3):
            broken[place] = rng.integers(256)
        try:
            decode_image(bytes(broken[: rng.integers(1, len(data) + 1)]))
        except ValueError as error:
            assert "\n" not in str(error)  # noqa: PT017


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"has too many pixels .*make it smaller"):
        decode_image(encoded(picture(0, 15, 15)))


def test_a_bomb_of_a_few_bytes_is_refused():
    header = struct.pack(">IIBBBBB", 50_000, 50_000, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    with pytest.raises(ValueError, match="has too many pixels"):
        decode_image(data)


def test_text_that_unpacks_to_gigabytes_is_refused():
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "a" * 3_000_000, zip=True)
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "png", pnginfo=info)
    with pytest.raises(ValueError, match="is cut or damaged"):
        decode_image(file.getvalue())


def test_other_numbers_of_channels_are_refused():
    with pytest.raises(ValueError, match="channels is 4; give 1 or 3"):
        decode_image(encoded(RGB), 4)
