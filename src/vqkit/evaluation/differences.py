"""Texts in a page: what cannot be seen is written out, and what differs is marked."""

import unicodedata
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby

MOST = 2000  # bytes of a text that are shown
TURNS = "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""Characters that turn the direction of those behind them, or of a whole page."""


def differing(text: bytes, other: bytes) -> tuple[list[bool], list[bool]]:
    """Which bytes of two texts differ.

    Byte by byte where they are equally long; else all between what they begin with in common and
    what they end with in common.
    """
    if len(text) == len(other):
        wrong = [a != b for a, b in zip(text, other, strict=True)]
        return wrong, wrong
    shorter = min(len(text), len(other))
    first = next((i for i in range(shorter) if text[i] != other[i]), shorter)
    rest = range(shorter - first)
    last = next((i for i in rest if text[-1 - i] != other[-1 - i]), shorter - first)
    one, two = ([first <= i < len(each) - last for i in range(len(each))] for each in (text, other))
    return one, two


def shown(text: bytes, wrong: Sequence[bool] | None = None) -> str:
    """A text as HTML.

    Bytes that are no UTF-8, control characters and those that turn the direction are written out.

    Args:
        text: UTF-8, or what shall be such.
        wrong: Which bytes are to be marked; None for none. One for each
    """
    wrong = [False] * len(text) if wrong is None else wrong
    parts = []
    for marked, run in groupby(clusters(text[:MOST], wrong), key=lambda pair: pair[1]):
        inner = "".join(written(cluster, marked) for cluster, _ in run)
        parts.append(f"<mark>{inner}</mark>" if marked else inner)
    more = " \N{HORIZONTAL ELLIPSIS}" if len(text) > MOST else ""
    return f'<pre class="text" dir="auto">{"".join(parts)}{more}</pre>'


def clusters(text: bytes, wrong: Sequence[bool]) -> Iterator[tuple[str, bool]]:
    """Characters, each with the marks that combine with it, and whether any byte of it is wrong."""
    cluster, marked, start = "", False, 0
    for character in text.decode("utf-8", "surrogateescape"):
        size = 1 if is_stray(character) else len(character.encode())
        own = any(wrong[start : start + size])
        start += size
        if cluster and not joins(character):
            yield cluster, marked
            cluster, marked = "", False
        cluster, marked = cluster + character, marked or own
    if cluster:
        yield cluster, marked


def joins(character: str) -> bool:
    """Whether a character stands on the one before it."""
    return unicodedata.category(character) in ("Mn", "Me", "Mc") or character == "\u200d"


def is_stray(character: str) -> bool:
    """Whether a character stands for a byte that is no UTF-8."""
    return "\udc80" <= character <= "\udcff"


def written(cluster: str, marked: bool) -> str:
    """A character as HTML, written out if it would not be seen."""
    return "".join(sign(character, marked) for character in cluster)


def sign(character: str, marked: bool) -> str:
    """One character as HTML, or what it is."""
    if character == "\n":
        return "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n" if marked else "\n"
    if is_stray(character):
        return f"<i>{ord(character) - 0xDC00:02x}</i>"
    if character in TURNS or (unicodedata.category(character) == "Cc" and character != "\t"):
        return f"<i>U+{ord(character):04X}</i>"
    return escape(character)
