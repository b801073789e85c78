"""The parts that a report page is made of."""

import base64
from collections.abc import Iterable, Sequence
from html import escape

from torch import Tensor

from vqkit.evaluation.differences import differing, shown
from vqkit.evaluation.style import STYLE
from vqkit.modalities.base import Media
from vqkit.modalities.image.pictures import png_bytes, shrink

TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
CRISP_BELOW = 128  # pixels: smaller images are enlarged without smoothing
LARGEST = 256  # pixels of an image in the page


def page(title: str, body: Iterable[str]) -> str:
    """A whole page that needs no other file.

    Args:
        title: Plain text.
        body: Parts, in HTML.
    """
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(part for part in body if part)
        + "\n</main>\n</body>\n</html>\n"
    )


def section(heading: str, lead: str, body: str) -> str:
    """A part of the page under its own heading.

    Args:
        heading: Plain text.
        lead: What is to be seen, plain text.
        body: HTML.
    """
    text = f"<p>{escape(lead)}</p>" if lead else ""
    return f'<section><h2>{escape(heading)}</h2>{text}<div class="body">{body}</div></section>'


def tile(name: str, value: str, unit: str = "", note: str = "") -> str:
    """One headline figure, all plain text."""
    unit = f' <span class="unit">{escape(unit)}</span>' if unit else ""
    note = f'<div class="note">{escape(note)}</div>' if note else ""
    return (
        f'<div><dt>{escape(name)}</dt><dd><div class="value">{escape(value)}{unit}</div>'
        f"{note}</dd></div>"
    )


def picture(image: Tensor, alt: str, *, title: str = "") -> str:
    """An image inside the page; a small one keeps its pixels visible, a large one is made smaller.

    Args:
        image: Grey or RGB levels. (C, H, W) uint8
        alt: What it shows, plain text.
        title: What is said when it is pointed at, plain text.
    """
    image = shrink(image, LARGEST)
    data = base64.b64encode(png_bytes(image)).decode()
    height, width = image.shape[1:]
    crisp = ' class="px"' if max(height, width) < CRISP_BELOW else ""
    hint = f' title="{escape(title)}"' if title else ""
    return (
        f'<img{crisp} width="{width}" height="{height}" alt="{escape(alt)}"{hint} '
        f'src="data:image/png;base64,{data}">'
    )


def play(media: Media) -> str:
    """An item inside the page, as a browser plays or shows it."""
    if media.kind == "text":
        return shown(media.data)
    data = f"data:{media.mime};base64,{base64.b64encode(media.data).decode()}"
    if media.kind == "audio":
        return f'<audio controls preload="none" src="{data}"></audio>'
    return f'<img alt="" src="{data}">'


def compare(media: Media, other: Media) -> str:
    """Two items side by side; of texts, what differs is marked."""
    if media.kind != "text":
        return f"{play(media)}{play(other)}"
    pair = media.data, other.data
    return "".join(shown(*each) for each in zip(pair, differing(*pair), strict=True))


def table(rows: Iterable[tuple[str, Sequence[str]]], *, heads: Sequence[str] = ()) -> str:
    """Names and figures, all plain text.

    Args:
        rows: A name and the figures that stand in its row.
        heads: What stands above, the first above the names.
    """
    parts = ['<div class="scroll"><table class="facts">']
    if heads:
        first, *others = (escape(head) for head in heads)
        cells = "".join(f'<td class="soft">{head}</td>' for head in others)
        parts.append(f"<tr><th>{first}</th>{cells}</tr>")
    for name, values in rows:
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        parts.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return "".join([*parts, "</table></div>"])


def number(value: float, digits: int = 3) -> str:
    """A figure with that many significant digits, thousands apart, never in powers of ten."""
    if isinstance(value, int) or abs(value) >= 10**digits:
        return f"{value:,.0f}"
    text = f"{value:.{digits}g}"
    if "e" in text:
        return f"{value:.{digits + 2}f}" if abs(value) >= 1e-5 else f"{value:.1e}"
    whole = len(text.split(".")[0].lstrip("-0"))
    if whole and value != 0:  # trailing zeros are digits too: 26.0, not 26
        return f"{value:.{max(digits - whole, 0)}f}"
    return text


def times(lengths: Sequence[int]) -> str:
    """Lengths of axes with multiplication signs between."""
    return TIMES.join(map(str, lengths)) or "1"


def first_up(line: str) -> str:
    """A line that begins a sentence."""
    return line[:1].upper() + line[1:]
