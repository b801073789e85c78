"""Any string comes back exactly from its codes and corrections."""

import math
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.modalities.text import texts

from vqkit.autoencoder import VQVAE
from vqkit.modalities.text import BYTES, corrections, restore
from vqkit.modalities.text.symbols import byte_symbols

BOTH = pytest.mark.parametrize("decoder", ["parallel", "autoregressive"])


@cache
def model(decoder: str) -> VQVAE:
    return texts.model(decoder, patch=4).eval()


@BOTH
@settings(deadline=None, max_examples=60)
@given(text=st.text(max_size=40))
def test_any_string_comes_back_exactly(decoder: str, text: str):
    found = corrections(model(decoder), text)
    assert restore(model(decoder), found) == text


@BOTH
@pytest.mark.parametrize(
    "text", ["", "\x00", "\u202eabc\u2066", "e\u0301\n\r\n", "\U0001f600" * 30]
)
def test_odd_strings_come_back_exactly(decoder: str, text: str):
    assert restore(model(decoder), corrections(model(decoder), text)) == text


@BOTH
@torch.no_grad()
def test_the_bits_are_those_of_the_text_given_its_codes(decoder: str):
    found = corrections(model(decoder), "to be or not")
    x = BYTES.item(byte_symbols(b"to be or not"), 4).unsqueeze(0)
    log_prob = model(decoder).distribution(model(decoder).encode(x)).log_prob(x)
    assert found.bits == pytest.approx(-float(log_prob) / math.log(2))
    assert found.bits > 0


@BOTH
def test_what_the_decoder_would_write_itself_needs_no_corrections(decoder: str):
    found = corrections(model(decoder), "to be or not")
    written = model(decoder).decode(found.codes)
    right = BYTES.item(byte_symbols(b"to be or not"), 4)
    assert bool(found.positions) == (not written[0].equal(right.long()))
    assert all(right[0, p] == s for p, s in zip(found.positions, found.symbols, strict=True))


def test_a_lone_surrogate_is_no_text():
    with pytest.raises(ValueError, match="surrogates not allowed"):
        corrections(model("parallel"), "\ud800")
