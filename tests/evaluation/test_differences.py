"""What must hold for texts in a page."""

from html.parser import HTMLParser

from hypothesis import given, settings
from hypothesis import strategies as st

from vqkit.evaluation.differences import MOST, differing, shown


class Read(HTMLParser):
    """The text of a page, and what of it is marked."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = self.marked = ""
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.tags.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data
        if "mark" in self.tags:
            self.marked += data


def both(text: bytes, other: bytes) -> tuple[Read, Read]:
    left, right = (
        Read(shown(*each)) for each in zip((text, other), differing(text, other), strict=True)
    )
    return left, right


def test_what_differs_is_marked_and_nothing_else():
    left, right = both(b"to be or not", b"to me or nut")
    assert (left.text, right.text) == ("to be or not", "to me or nut")
    assert (left.marked, right.marked) == ("bo", "mu")


def test_a_character_is_marked_whole_with_what_stands_on_it():
    left, right = both("xé e\u0301 y".encode(), "xè e\u0300 y".encode())
    assert left.marked == "ée\u0301"
    assert right.marked == "èe\u0300"


def test_between_texts_of_unlike_lengths_all_is_marked_between_what_they_share():
    left, right = both(b"some long words", b"some words")
    assert left.marked == "long "
    assert right.marked == ""
    assert both(b"aaa", b"aa")[0].marked == "a"
    assert both(b"", b"a")[1].marked == "a"


def test_what_cannot_be_seen_is_written_out():
    text = "a\u202eb\x00c\n".encode() + b"\xff"
    assert Read(shown(text)).text == "aU+202EbU+0000c\nff"
    assert "\u202e" not in shown(text)
    _, right = both(b"a\n", b"ab")
    assert right.marked == "b"
    left, _ = both(b"a\n", b"ab")
    assert left.marked == "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}\n"


def test_names_of_tags_are_no_tags():
    page = Read(shown(b"<script>alert(1)</script> &amp;"))
    assert page.text == "<script>alert(1)</script> &amp;"


def test_of_a_long_text_the_beginning_is_shown():
    assert len(Read(shown(b"x" * 10 * MOST)).text) == MOST + 2


@settings(deadline=None, max_examples=200)
@given(text=st.binary(max_size=40), other=st.binary(max_size=40))
def test_any_two_texts_can_be_compared(text: bytes, other: bytes):
    for page in both(text, other):
        assert not page.tags
    if text == other:
        assert both(text, other)[0].marked == ""
    else:
        assert any(page.marked for page in both(text, other))
