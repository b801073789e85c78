"""What must hold for contact sheets with words."""

import numpy as np
import pytest
import torch
from PIL import Image

from vqkit.evaluation.captions import by_class, captioned, fitting, together
from vqkit.modalities.image.pictures import contact_sheet


@pytest.mark.parametrize("heads", [(), ("original", "codes", "a far too long heading " * 3)])
@pytest.mark.parametrize("names", [(), ("cat", "dog")])
def test_words_stand_above_and_beside_and_change_no_image(
    heads: tuple[str, ...], names: tuple[str, ...]
):
    torch.manual_seed(0)
    images = torch.randint(256, (6, 3, 60, 90), dtype=torch.uint8)
    sheet = contact_sheet(images, 3).permute(1, 2, 0).numpy()
    found = np.array(captioned(images, 3, heads=heads, names=names))
    height, width = sheet.shape[:2]
    assert (found[-height:, -width:] == sheet).all()
    above, beside = found[:-height], found[:, :-width]
    assert bool(above.size) == bool(heads)
    assert bool(beside.size) == bool(names)
    assert not heads or above.min() < 80
    assert not names or beside[-height:].min() < 80


def test_words_shrink_to_their_room():
    wide, narrow = fitting(["reconstruction"], 200), fitting(["reconstruction"], 80)
    assert narrow.getlength("reconstruction") <= 80 < wide.getlength("reconstruction")


@pytest.mark.parametrize(
    ("size", "expected"),
    [((100, 300), (320, 300)), ((100, 100), (320, 100)), ((300, 100), (300, 320))],
)
def test_sheets_stand_side_by_side_unless_that_makes_a_ribbon(
    size: tuple[int, int], expected: tuple[int, int]
):
    whole = together([Image.new("RGB", size, color) for color in ("red", "green", "blue")], 10)
    assert whole.size == expected
    assert len(whole.getcolors() or ()) == 4  # three and the gap


def test_every_image_stands_once_in_a_row_of_its_class():
    labels = [2, 0, 2, 2, 0, 5, 2]
    images = torch.arange(7).view(-1, 1, 1, 1).to(torch.uint8)
    cells, columns, classes = by_class(images, labels, 3)
    rows = cells.view(-1, columns).tolist()
    assert classes == [0, 2, 2, 5]
    assert rows == [[1, 4, 255], [0, 2, 3], [6, 255, 255], [5, 255, 255]]


@pytest.mark.parametrize("sizes", [[(30, 20), (50, 20)], [(50, 20), (30, 20), (40, 25)]])
def test_pictures_of_unequal_size_stand_together_whole(sizes: list[tuple[int, int]]):
    pictures = [Image.new("RGB", size, "black") for size in sizes]
    levels = list(together(pictures, 5).convert("L").tobytes())
    assert levels.count(0) == sum(width * height for width, height in sizes)
