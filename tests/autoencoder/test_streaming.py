"""What must hold for codes and sound that come chunk by chunk (seam 7)."""

import pytest
import torch
from tests.autoencoder.models import small
from tests.autoencoder.streams import decoded, encoded, joined
from tests.modalities.audio.sounds import model, signals
from torch.testing import assert_close

from vqkit.autoencoder import StreamDecoder, StreamEncoder

LENGTH = 323  # of 41 hops, the last one not whole
SIZES = [1, 3, 7, 8, 9, 16, 40, 64, 100, 322, 323, 500]


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("size", SIZES)
def test_codes_of_chunks_are_those_of_the_whole(size: int, delay: int):
    tokenizer = model(delay=delay).double()
    x = signals(2, LENGTH).double()
    assert encoded(tokenizer, x, size).flat().equal(tokenizer.encode(x).flat())


@pytest.mark.parametrize("delay", [0, 2])
@pytest.mark.parametrize("size", [1, 2, 5, 41, 100])
def test_sound_of_chunks_of_codes_is_that_of_the_whole(size: int, delay: int):
    tokenizer = model(delay=delay)
    codes = tokenizer.encode(signals(2, LENGTH))
    found = decoded(tokenizer, codes, size)
    whole = tokenizer.decode(codes)
    assert found.shape[2] == 41 * 8
    assert_close(found, whole[..., : 41 * 8], rtol=0, atol=1e-5)


def test_in_float32_codes_differ_at_counted_ties_alone():
    tokenizer = model()
    x = signals(4, LENGTH)
    whole, chunks = tokenizer.encode(x), encoded(tokenizer, x, 8)
    different = (whole.flat() != chunks.flat()).sum()
    z_e = tokenizer.inputs(x)[0].double()
    left, ties = z_e, 0
    for book, some in zip(
        tokenizer.quantizers[0].codebooks(), whole.levels[0].indices.unbind(-1), strict=True
    ):
        entries = book.entries.double()
        two = (left.unsqueeze(-2) - entries).square().sum(-1).topk(2, largest=False).values
        ties += int(((two[..., 1] - two[..., 0]) < 1e-5).sum())
        left = left - entries[some]
    assert different <= ties * len(tokenizer.quantizers[0].codebooks())


def test_the_whole_in_one_chunk_is_bit_for_bit_the_offline_path():
    """Of a batch with more than 128 codes; products of fewer rows sum in another order."""
    tokenizer = model(delay=1)
    x = signals(3, 60 * 8)
    stream, waited = StreamEncoder(tokenizer), torch.cat([x, x.new_zeros(3, 1, 8)], 2)
    assert stream.encoder(waited, past={})[..., 1:].equal(tokenizer.encoder(x))
    assert encoded(tokenizer, x, 10**6).flat().equal(tokenizer.encode(x).flat())
    codes = tokenizer.encode(x)
    assert decoded(tokenizer, codes, 10**6).equal(tokenizer.decode(codes))


def test_the_latency_is_one_hop_and_the_delay():
    """Sound is heard as soon as so many samples after it came in, and no sooner."""
    for delay in (0, 2):
        tokenizer = model(delay=delay)
        encoder, decoder = StreamEncoder(tokenizer), StreamDecoder(tokenizer)
        assert encoder.latency == 8 * (1 + delay)
        heard = 0
        for came, sample in enumerate(signals(1, 80).split(1, 2), start=1):
            heard += decoder.push(encoder.push(sample)).shape[2]
            assert heard == max(0, came // 8 - delay) * 8
            assert came - heard < encoder.latency + 1


def test_a_stream_keeps_the_weights_that_it_began_with():
    tokenizer = model()
    x = signals(1, 160)
    expected, stream = encoded(tokenizer, x, 8), StreamEncoder(tokenizer)
    for parameter in tokenizer.parameters():
        parameter.data.zero_()
    parts = [*(stream.push(part) for part in x.split(8, 2)), stream.end()]
    assert joined(parts).flat().equal(expected.flat())


def test_a_stream_begins_anew_after_its_end():
    tokenizer = model(delay=1)
    x, stream = signals(1, 100), StreamEncoder(tokenizer)
    first = joined([stream.push(x), stream.end()])
    assert joined([stream.push(x), stream.end()]).flat().equal(first.flat())


def test_a_decoder_begins_anew_after_its_end():
    tokenizer = model(delay=1)
    codes, stream = tokenizer.encode(signals(1, 100)), StreamDecoder(tokenizer)
    first = stream.push(codes)
    assert not stream.push(codes).equal(first)  # it went on
    stream.end()
    assert stream.push(codes).equal(first)


def test_a_stream_that_nothing_came_into_has_no_end():
    with pytest.raises(ValueError, match="nothing has come in"):
        StreamEncoder(model()).end()


def test_a_model_that_needs_the_whole_item_is_refused():
    with pytest.raises(ValueError, match="does not stream"):
        StreamEncoder(small())
