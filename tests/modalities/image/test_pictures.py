"""What must hold for pictures of images."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqkit.modalities.image.pictures import (
    contact_sheet,
    enlarge,
    png_bytes,
    save_png,
    shrink,
    to_uint8,
)


def test_normalised_images_become_their_nearest_levels():
    levels = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    x = levels.float() / 127.5 - 1
    assert torch.equal(to_uint8(x), levels)
    assert torch.equal(to_uint8(x + 0.49 / 127.5), levels)
    assert to_uint8(torch.tensor([[[-7.0, 7.0]]])).flatten().tolist() == [0, 255]
    assert to_uint8(levels) is levels


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_png_holds_exactly_the_image(tmp_path: Path, channels: int):
    torch.manual_seed(0)
    image = torch.randint(256, (channels, 5, 7), dtype=torch.uint8)
    save_png(tmp_path / "a.png", image)
    found = torch.from_numpy(np.array(Image.open(tmp_path / "a.png"))).reshape(5, 7, channels)
    assert torch.equal(found.permute(2, 0, 1), image)
    assert png_bytes(image) == (tmp_path / "a.png").read_bytes()


def test_small_images_grow_by_whole_pixels():
    image = torch.arange(6, dtype=torch.uint8).view(1, 2, 3)
    large = enlarge(image, 9)
    assert large.shape == (1, 6, 9)
    assert torch.equal(large[:, ::3, ::3], image)
    assert torch.equal(large, large[:, ::3, ::3].repeat_interleave(3, 1).repeat_interleave(3, 2))
    assert torch.equal(enlarge(image, 2), image)


def test_large_images_become_the_means_of_their_pixels():
    image = torch.randint(256, (3, 64, 32), dtype=torch.uint8)
    small = shrink(image, 16)
    expected = image.float().unflatten(2, (8, 4)).unflatten(1, (16, 4)).mean((2, 4))
    assert small.shape == (3, 16, 8)
    assert (small - expected).abs().max() <= 0.5
    assert shrink(image, 64) is image


def test_a_contact_sheet_holds_every_image_in_order():
    torch.manual_seed(0)
    images = torch.randint(255, (5, 3, 4, 6), dtype=torch.uint8)
    sheet = contact_sheet(images, 3, gap=2)
    assert sheet.shape == (3, 2 * 4 + 2, 3 * 6 + 2 * 2)
    for i, image in enumerate(images):
        top, left = i // 3 * 6, i % 3 * 8
        assert torch.equal(sheet[:, top : top + 4, left : left + 6], image)
    assert (sheet[:, 6:, 16:] == 255).all()  # no sixth image


def test_a_picture_of_other_channels_is_refused():
    with pytest.raises(ValueError, match="1, 3 or 4 channels"):
        png_bytes(torch.zeros(2, 4, 4, dtype=torch.uint8))
    with pytest.raises(ValueError, match="give at least 1 of both"):
        contact_sheet(torch.zeros(0, 1, 4, 4, dtype=torch.uint8), 3)


def test_a_png_is_read_by_others_as_grey_or_colour():
    assert Image.open(io.BytesIO(png_bytes(torch.zeros(1, 2, 2).byte()))).mode == "L"
    assert Image.open(io.BytesIO(png_bytes(torch.zeros(3, 2, 2).byte()))).mode == "RGB"
