"""What must hold for the one vocabulary of all codes."""

import numpy as np
import pytest
import torch
from tests.tokens.sets import KINDS, codes_like

from vqkit.codes import Codes
from vqkit.tokens import Vocabulary


def equal(a: Codes, b: Codes) -> bool:
    """Whether two batches have the same levels, integers and masks."""
    masks = [(x.mask, y.mask) for x, y in zip(a.levels, b.levels, strict=True)]
    same = all((x is None) == (y is None) and (x is None or torch.equal(x, y)) for x, y in masks)
    return same and a.specs == b.specs and torch.equal(a.flat(), b.flat())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("first_id", [0, 32_000])
def test_tokens_are_the_codes_in_a_row_each_in_the_range_of_its_codebook(kind: str, first_id: int):
    words = Vocabulary(levels=KINDS[kind], first_id=first_id)
    codes = codes_like(KINDS[kind], 0)
    expected, start = [first_id + words.num_entries], first_id
    starts = []
    for spec in KINDS[kind]:
        for size in spec.codebook_sizes:
            starts.append(start)
            start += size
    book = 0
    for level in codes.levels:  # coarsest first, raster order, the codebooks of a place together
        rows = level.indices[0].reshape(-1, len(level.codebook_sizes))
        for place in rows.tolist():
            expected += [starts[book + q] + index for q, index in enumerate(place)]
        book += len(level.codebook_sizes)
    expected.append(first_id + words.num_entries + 1)
    assert words.ids(codes).tolist() == expected
    assert [o for level in words.offsets for o in level] == starts
    assert words.size == expected[-1] + 1
    assert equal(words.codes(words.ids(codes)), codes)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("special", [{"bos": False}, {"eos": False}, {"pad": True}], ids=str)
def test_any_codes_come_back_with_any_special_tokens(kind: str, special: dict[str, bool]):
    words = Vocabulary(levels=KINDS[kind], **special)
    for seed in range(5):
        codes = codes_like(KINDS[kind], seed, holes=seed % 2 == 1)
        shape = tuple(tuple(level.indices.shape[1:]) for level in codes.levels)
        mask = codes.flat_mask()
        ids = words.ids(codes)
        if special == {"pad": True}:
            ids = np.append(ids, [words.pad_id] * 4)
        again = words.codes(ids, shape, None if mask is None else mask[0].numpy())
        assert equal(again, codes)


def test_special_tokens_come_last_and_only_those_asked_for():
    (spec,) = KINDS["flat"]
    found = [
        (words.bos_id, words.eos_id, words.pad_id, words.size)
        for words in (
            Vocabulary(levels=(spec,), bos=bos, eos=eos, pad=pad)
            for bos, eos, pad in ((True, True, True), (False, True, True), (False, False, False))
        )
    ]
    assert found == [(16, 17, 18, 19), (None, 16, 17, 18), (None, None, None, 16)]


def test_no_two_codebooks_share_a_token():
    words = Vocabulary(levels=KINDS["levels"])
    seen: dict[int, set[tuple[int, int]]] = {}
    for seed in range(50):
        codes = codes_like(KINDS["levels"], seed)
        own = words.ids(codes)[1:-1]
        books = [(0, 0)] * 4 + [(1, 0), (1, 1)] * 16
        for token, book in zip(own.tolist(), books, strict=True):
            seen.setdefault(token, set()).add(book)
    assert all(len(books) == 1 for books in seen.values())
    assert len(seen) == words.num_entries == 21


def test_tokens_that_are_no_codes_are_refused_by_place():
    words = Vocabulary(levels=KINDS["residual"])
    ids = words.ids(codes_like(KINDS["residual"], 0))
    with pytest.raises(ValueError, match="14 tokens are given, the item has 15 codes"):
        words.codes(ids[2:])
    ids[5], ids[6] = ids[6], ids[5]
    with pytest.raises(ValueError, match=r"at place 4 is no entry .* are 16 to 31"):
        words.codes(ids)
