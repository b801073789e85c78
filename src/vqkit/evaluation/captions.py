"""Contact sheets with words: headings above columns, names beside rows, titles above sheets."""

import math
from collections.abc import Sequence

import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from vqkit.modalities.image.pictures import as_image, contact_sheet

GAP, FONT = 2, 13  # pixels
WHITE = 255


def captioned(
    images: Tensor, columns: int, *, heads: Sequence[str] = (), names: Sequence[str] = ()
) -> Image.Image:
    """A contact sheet with words.

    Args:
        images: Grey or RGB levels, row by row. (N, C, H, W) uint8
        columns: Images per row.
        heads: Words above the columns; fewer words than columns have more room each.
        names: Words to the left of the rows.
    """
    sheet = as_image(contact_sheet(images, columns, gap=GAP))
    height, width = (int(length) + GAP for length in images.shape[-2:])
    share = columns * width // len(heads) if heads else width
    font = fitting(heads, share - 2 * GAP)
    beside = fitting(names, 20 * FONT)
    left = 0 if not names else math.ceil(max(map(beside.getlength, names))) + FONT
    top = FONT + 8 if heads else 0
    whole = Image.new("RGB", (left + sheet.width, top + sheet.height), "white")
    whole.paste(sheet, (left, top))
    pen = ImageDraw.Draw(whole)
    for i, word in enumerate(heads):
        pen.text((left + i * share, top - 5), word, "black", font, anchor="ls")
    for i, word in enumerate(names):
        middle = top + i * height + (height - GAP) // 2
        pen.text((left - FONT // 2, middle), word, "black", beside, anchor="rm")
    return whole


def fitting(words: Sequence[str], room: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The largest font, up to ``FONT``, in which each of the words takes no more than so much."""
    sizes = (ImageFont.load_default(size) for size in range(FONT, 7, -1))
    fits = (font for font in sizes if all(font.getlength(word) <= room for word in words))
    return next(fits, ImageFont.load_default(8))


def together(sheets: Sequence[Image.Image], gap: int) -> Image.Image:
    """Pictures beside each other, or one below the other where that would be far too wide.

    Args:
        sheets: At least one.
        gap: Pixels between them.
    """
    widths, heights = zip(*(sheet.size for sheet in sheets), strict=True)
    gaps, width, height = (len(sheets) - 1) * gap, max(widths), max(heights)
    wide, tall = sum(widths) + gaps, sum(heights) + gaps
    across = wide / height <= 2 * tall / width  # screens are wide
    whole = Image.new("RGB", (wide, height) if across else (width, tall), "white")
    x = y = 0
    for sheet in sheets:
        whole.paste(sheet, (x, y))
        x, y = (x + sheet.width + gap, 0) if across else (0, y + sheet.height + gap)
    return whole


def by_class(images: Tensor, labels: Sequence[int], most: int) -> tuple[Tensor, int, list[int]]:
    """Images in rows of one class each, rows filled up with white.

    Args:
        images: Grey or RGB levels. (N, C, H, W) uint8
        labels: The class of each. N
        most: Images in a row; a class of more has several rows.

    Returns:
        The images and the white ones, (rows * columns, C, H, W) uint8; the number of columns; and
        the class of each row.
    """
    places = {label: [i for i, x in enumerate(labels) if x == label] for label in sorted({*labels})}
    columns = min(most, max(map(len, places.values())))
    rows, classes = [], []
    for label, mine in places.items():
        for start in range(0, len(mine), columns):
            row = images[mine[start : start + columns]]
            blank = torch.full((columns - len(row), *images.shape[1:]), WHITE, dtype=torch.uint8)
            rows.append(torch.cat([row, blank]))
            classes.append(label)
    return torch.cat(rows), columns, classes
