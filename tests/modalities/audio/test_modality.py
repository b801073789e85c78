"""What must hold for recordings as files, pictures and media."""

import io
from pathlib import Path

import pytest
import soundfile
import torch
from tests.modalities.audio.sounds import RATE, signals
from torch.testing import assert_close

from vqkit.modalities.audio import AudioModality

KIND = AudioModality(RATE, 2)


@pytest.mark.parametrize("channels", [1, 2])
def test_a_written_recording_is_read_back_to_the_last_bit(tmp_path: Path, channels: int):
    stored = KIND.stored(signals(1, 123, channels))[0]
    KIND.save(tmp_path / "a.wav", stored)
    samples, rate = soundfile.read(tmp_path / "a.wav", dtype="int16", always_2d=True)
    assert rate == RATE
    assert torch.from_numpy(samples.T.copy()).equal(stored)
    assert [path.name for path in tmp_path.iterdir()] == ["a.wav"]


def test_stored_samples_are_rounded_and_cut_to_the_range():
    x = torch.tensor([[[-2.0, -1, 0, 1.6 / 32768, 0.99999, 2]]])
    assert KIND.stored(x).tolist() == [[[-32768, -32768, 0, 2, 32767, 32767]]]
    assert KIND.stored(KIND.stored(x)).equal(KIND.stored(x))


@pytest.mark.parametrize("length", [1, 50, 8000])
def test_pictures_have_one_size_whatever_the_length(length: int):
    found = KIND.pictures(signals(2, length, 2))
    assert found is not None
    assert found.shape == (2, 3, 64, 128)
    assert found.dtype == torch.uint8


def test_a_tone_is_a_bright_line_higher_for_a_higher_pitch():
    time = torch.arange(8000) / RATE
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * time) for hertz in (300, 2000)])
    found = KIND.pictures(0.5 * tones.unsqueeze(1))
    assert found is not None
    rows = found.float().mean((1, 3)).argmax(1).tolist()
    assert rows[0] > rows[1]  # counted from the top


def test_silence_is_dark_and_stored_samples_look_as_they_are():
    x = signals(1, 4000)
    both = [KIND.pictures(each) for each in (x, KIND.stored(x), torch.zeros(1, 1, 4000))]
    loud, stored, silent = (each.float() for each in both if each is not None)
    assert (loud - stored).abs().mean() < 2
    assert silent.mean() < 5 < loud.mean()


def test_a_page_plays_the_recording():
    x = signals(1, 400)[0]
    media = KIND.media(x)
    assert (media.kind, media.mime) == ("audio", "audio/wav")
    samples, rate = soundfile.read(io.BytesIO(media.data))
    assert rate == RATE
    assert samples == pytest.approx(x[0].numpy(), abs=1e-4)


def test_bit_rates_follow_from_bits_for_each_sample():
    found = KIND.rates({"code_bits_per_dim_uniform": 0.5, "code_bits_per_dim_prior": 0.25})
    assert found == {"kbps": 0.5 * 2 * 8, "kbps_prior": 0.25 * 2 * 8}


@pytest.mark.parametrize("length", [1, 50, 8000])
def test_what_a_probe_gets_of_sound_knows_loudness_and_pitch_and_no_signs(length: int):
    x = 0.1 * signals(2, length, 2)
    found = KIND.raw_features(x)
    assert found.shape == (2, 16 * 40)
    assert_close(KIND.raw_features(-x), found)
    audible = found > -70
    assert_close(KIND.raw_features(x / 10)[audible], found[audible] - 20)


def test_each_part_of_a_recording_has_its_own_loudness():
    x = 0.1 * signals(2, 4000, 2)
    bands = KIND.raw_features(torch.cat([x, torch.zeros_like(x)], 2)).unflatten(1, (40, 16))
    assert (bands[..., 9:] < bands[..., :7].amin(2, keepdim=True)).all()


def test_a_probe_gets_a_higher_tone_in_a_higher_band():
    time = torch.arange(8000) / RATE
    tones = torch.stack([torch.sin(2 * torch.pi * hertz * time) for hertz in (300, 2000)])
    bands = KIND.raw_features(0.5 * tones.unsqueeze(1)).unflatten(1, (40, 16)).mean(2)
    assert bands[0].argmax() < bands[1].argmax()
