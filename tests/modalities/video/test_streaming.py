"""What must hold for codes and clips that come frame by frame (seam 7)."""

import pytest
from tests.autoencoder.streams import decoded, encoded, joined
from tests.modalities.video.clips import clips, model
from torch.testing import assert_close

from vqkit.autoencoder import StreamDecoder, StreamEncoder

LENGTH = 12  # the first frame, 5 whole hops of 2, and half of one
STRIDES = [((2, 2),), ((1, 2),), ((2, 1), (2, 2))]


@pytest.mark.parametrize("strides", STRIDES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 11, 12, 30])
def test_codes_of_chunks_are_those_of_the_whole(size: int, strides: tuple[tuple[int, int], ...]):
    tokenizer = model(strides=strides).double()
    x = clips(2, LENGTH)
    assert encoded(tokenizer, x, size).flat().equal(tokenizer.encode(x).flat())


@pytest.mark.parametrize("strides", STRIDES, ids=str)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 20])
@pytest.mark.parametrize("double", [False, True])
def test_clips_of_chunks_of_codes_are_those_of_the_whole(
    size: int, strides: tuple[tuple[int, int], ...], double: bool
):
    tokenizer = model(strides=strides)
    tokenizer = tokenizer.double() if double else tokenizer
    codes = tokenizer.encode(clips(2, LENGTH))
    found = decoded(tokenizer, codes, size)
    assert_close(found, tokenizer.decode(codes), rtol=0, atol=1e-9 if double else 1e-5)


def test_in_float32_codes_differ_at_counted_ties_alone():
    tokenizer = model()
    x = clips(8, LENGTH)
    whole, chunks = (
        tokenizer.encode(x).levels[0].indices,
        encoded(tokenizer, x, 1).levels[0].indices,
    )
    z_e = tokenizer.inputs(x)[0].double()
    (book,) = tokenizer.quantizers[0].codebooks()
    entries = book.entries.double()
    two = (z_e.unsqueeze(-2) - entries).square().sum(-1).topk(2, largest=False).values
    ties = (two[..., 1] - two[..., 0]) < 1e-5
    assert int((whole != chunks).sum()) <= int(ties.sum())


def test_the_whole_in_one_chunk_is_bit_for_bit_the_offline_path():
    tokenizer = model()
    x = clips(3, LENGTH)
    assert encoded(tokenizer, x, 100).flat().equal(tokenizer.encode(x).flat())
    stream, whole = StreamEncoder(tokenizer), tokenizer.objective.normalize(x[:, :, :11])
    assert stream.encoder(whole, past={}).equal(tokenizer.encoder(whole))
    codes = tokenizer.encode(x)
    assert decoded(tokenizer, codes, 100).equal(tokenizer.decode(codes))


def test_frames_whose_size_is_no_multiple_of_a_codes_stream_as_well():
    tokenizer = model().double()
    x = clips(2, 6, (7, 9))
    assert encoded(tokenizer, x, 1).flat().equal(tokenizer.encode(x).flat())


def test_the_first_frame_is_seen_at_once_and_each_hop_as_soon_as_it_is_whole():
    tokenizer = model()
    encoder, decoder = StreamEncoder(tokenizer), StreamDecoder(tokenizer)
    assert encoder.latency == 2
    seen = []
    for frame in clips(1, 7).split(1, 2):
        y = decoder.push(encoder.push(frame))
        assert y.shape[3:] == (8, 8)
        seen.append(y.shape[2])
    assert seen == [1, 0, 2, 0, 2, 0, 2]
    assert encoder.end().levels[0].indices.shape == (1, 0, 2, 2, 1)


def test_a_stream_begins_anew_after_its_end():
    tokenizer = model()
    x, stream = clips(1, 6), StreamEncoder(tokenizer)
    first = joined([stream.push(x), stream.end()])
    assert joined([stream.push(x), stream.end()]).flat().equal(first.flat())
    with pytest.raises(ValueError, match="nothing has come in"):
        stream.end()
