"""What must hold for reading recordings."""

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.testing import assert_allclose
from scipy.signal import resample_poly
from tests.modalities.audio.sounds import RATE, file_of, make_sounds, tone

from vqkit.modalities.audio import AudioDataConfig
from vqkit.modalities.audio.decoding import Form, decode_sound

PLAIN = Form(RATE, 1, "none")


def options(path: Path, **more: object) -> AudioDataConfig:
    return AudioDataConfig(path=str(path), sample_rate=RATE, cache_mb=1, **more)  # pyright: ignore


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "AIFF"])
@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24"])
def test_samples_come_back_from_lossless_files(kind: str, subtype: str):
    samples = tone(500)
    found = decode_sound(file_of(samples, kind=kind, subtype=subtype), PLAIN)
    assert found.dtype == np.float32
    assert_allclose(found[0], samples, rtol=0, atol=2**-15)


@pytest.mark.parametrize("kind", ["OGG", "MP3"])
def test_lossy_files_are_read(kind: str):
    found = decode_sound(file_of(tone(4000), kind=kind), PLAIN)
    assert abs(found.shape[1] - 4000) < 3000
    assert 0.3 < np.abs(found).max() < 0.7


@pytest.mark.parametrize("rate", [4000, 11_025, 16_000, 44_100])
def test_other_rates_are_resampled_by_the_polyphase_filter(rate: int):
    samples = tone(rate // 4, rate=rate)
    found = decode_sound(file_of(samples, rate=rate, subtype="FLOAT"), PLAIN)[0]
    common = np.gcd(rate, RATE)
    assert_allclose(found, resample_poly(samples, RATE // common, rate // common), atol=1e-6)
    inside = slice(200, len(found) - 200)
    assert_allclose(found[inside], tone(len(found))[inside], atol=0.02)


def test_channels_are_mixed_or_repeated():
    left, right = tone(100), tone(100, hertz=900)
    stereo = file_of(np.stack([left, right], 1), subtype="FLOAT")
    assert_allclose(decode_sound(stereo, PLAIN), ((left + right) / 2)[None], atol=1e-7)
    assert_allclose(decode_sound(stereo, Form(RATE, 2, "none")), [left, right])
    mono = file_of(left, subtype="FLOAT")
    assert_allclose(decode_sound(mono, Form(RATE, 2, "none")), [left, left])


def test_a_recording_can_be_made_as_loud_as_can_be_and_silence_stays():
    loud = Form(RATE, 1, "peak")
    assert np.abs(decode_sound(file_of(tone(99, loud=0.01)), loud)).max() == 1
    assert not decode_sound(file_of(np.zeros(99, np.float32)), loud).any()


def test_clipped_recordings_are_read():
    clipped = np.clip(4 * tone(200), -1, 1)
    assert np.abs(decode_sound(file_of(clipped), PLAIN)).max() > 0.99


def rate_zero() -> bytes:
    data = bytearray(file_of(tone(50)))
    data[24:28] = bytes(4)
    return bytes(data)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "nothing": (lambda: b"", "is empty; remove it"),
    "no sound": (lambda: b"neither music nor speech" * 20, "is cut or no sound file"),
    "cut": (
        lambda: file_of(tone(5000), kind="FLAC")[:60],
        "is cut or no sound file|has no samples",
    ),
    "no samples": (lambda: file_of(np.zeros(0, np.float32)), "has no samples; remove it"),
    "one sample": (lambda: file_of(np.zeros(1, np.float32)), "has 1 sample; remove it"),
    "seven channels": (
        lambda: file_of(np.zeros((9, 7), np.float32)),
        "has 7 channels; mix them to 1 or 2",
    ),
    "not a number": (
        lambda: file_of(np.array([0, np.nan, 0], np.float32), subtype="FLOAT"),
        "has NaN or infinity at sample 1",
    ),
    "another scale": (
        lambda: file_of(np.array([0, 3000, 0], np.float32), subtype="FLOAT"),
        "has samples up to 3000; scale them",
    ),
    "rate of 0": (rate_zero, "sample rate of 0 Hz|is cut or no sound file"),
    "rate of 8": (lambda: file_of(tone(50), rate=8), "sample rate of 8 Hz; write it again"),
    "mp3 that is cut": (lambda: file_of(tone(5000), kind="MP3")[:1500], "is cut"),
}


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3"])
@pytest.mark.parametrize("share", [0.4, 0.8, 0.99])
def test_a_file_whose_end_is_missing_is_not_taken_for_a_shorter_recording(kind: str, share: float):
    subtype = None if kind in ("OGG", "MP3") else "PCM_16"
    data = file_of(tone(30_000), kind=kind, subtype=subtype)
    assert decode_sound(data, PLAIN).shape[1] >= 30_000
    with pytest.raises(ValueError, match=r"is cut|has no samples"):
        decode_sound(data[: int(share * len(data))], PLAIN)


@pytest.mark.parametrize("size", [0, 2**32 - 1])
def test_a_wav_file_that_was_written_to_a_pipe_does_not_know_its_size(size: int):
    data = bytearray(file_of(tone(500)))
    data[4:8] = size.to_bytes(4, "little")
    assert decode_sound(bytes(data), PLAIN).shape[1] == 500


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_says_why_on_one_line(name: str):
    make, reason = BAD[name]
    with pytest.raises(ValueError, match=reason) as caught:
        decode_sound(make(), PLAIN)
    assert "\n" not in str(caught.value)
    assert "BytesIO" not in str(caught.value)


def test_bad_files_are_listed_and_left_out(tmp_path: Path):
    make_sounds(tmp_path, 6)
    for name, (make, _) in BAD.items():
        (tmp_path / "low" / f"{name}.wav").write_bytes(make())
    found, lines = options(tmp_path).open_all()
    assert len(found) == 6
    assert len(lines) == len(BAD)
    assert all(f"{tmp_path}/low/{name}.wav " in " ".join(lines) for name in BAD)
    with pytest.raises(ValueError, match=f"{len(BAD)} of {6 + len(BAD)} items cannot be read"):
        options(tmp_path, strict=True).open_all()


def test_a_folder_gives_labels_names_and_whole_recordings(tmp_path: Path):
    make_sounds(tmp_path, 6)
    found, _ = options(tmp_path).open_all()
    assert found.labels == ("high", "low")
    assert [found.id(i) for i in (0, 5)] == ["high/001.wav", "low/004.wav"]
    item = found.example(3, seed=5)  # not augmented: whole
    assert item.label == 1
    raw = (tmp_path / found.id(3)).read_bytes()
    assert_allclose(item.x.numpy(), decode_sound(raw, PLAIN))


def test_a_parquet_file_of_bytes_is_read_as_the_folder_is(tmp_path: Path):
    make_sounds(tmp_path / "files", 6)
    paths = sorted((tmp_path / "files").rglob("*.wav"))
    rows = [{"bytes": path.read_bytes(), "path": path.name} for path in paths]
    table = pa.table({"audio": rows, "label": [path.parent.name for path in paths]})
    pq.write_table(table, tmp_path / "sounds.parquet")
    one, _ = options(tmp_path / "files").open_all()
    other, _ = options(tmp_path / "sounds.parquet").open_all()
    assert one.labels == other.labels
    for i in range(6):
        assert one.example(i).x.equal(other.example(i).x)
        assert one.example(i).label == other.example(i).label


def test_one_file_is_a_data_set_of_one(tmp_path: Path):
    make_sounds(tmp_path, 2)
    found, _ = options(tmp_path / "low" / "000.wav").open_all()
    assert len(found) == 1


def test_training_cuts_a_random_part_and_evaluation_nothing(tmp_path: Path):
    make_sounds(tmp_path, 10)
    splits = options(tmp_path, crop_s=0.02, eval_fraction=0.3).open()
    whole = splits.train.example(0).x
    crops = [splits.train.example(0, seed).x for seed in range(50)]
    starts = set()
    for crop in crops:
        assert crop.shape == (1, 160)
        windows = whole[0].unfold(0, 160, 1)
        starts.add(int((windows == crop[0]).all(1).nonzero()[0]))
    assert len(starts) > 20
    assert crops[7].equal(splits.train.example(0, 7).x)
    assert splits.evaluation.example(0, 7).x.shape[1] > 160


def test_recordings_shorter_than_a_crop_stay_whole(tmp_path: Path):
    make_sounds(tmp_path, 4)
    splits = options(tmp_path, crop_s=9).open()
    assert splits.train.example(0, 3).x.equal(splits.train.example(0).x)


@pytest.mark.parametrize(
    "change",
    [{"sample_rate": 4000}, {"channels": 2}, {"normalize": "peak"}, {"crop_s": 0.5}],
    ids=str,
)
def test_the_fingerprint_changes_with_what_is_made_of_the_recordings(
    tmp_path: Path, change: dict[str, object]
):
    make_sounds(tmp_path, 6)
    plain = {"path": str(tmp_path), "sample_rate": RATE, "cache_mb": 0}
    names = {AudioDataConfig(**each).open().train.fingerprint for each in (plain, plain | change)}  # pyright: ignore
    assert len(names) == 2
    assert AudioDataConfig(**plain).open().train.fingerprint in names  # pyright: ignore


def test_what_is_kept_in_memory_is_what_is_read_anew(tmp_path: Path):
    make_sounds(tmp_path, 5)
    kept, fresh = (
        AudioDataConfig(path=str(tmp_path), sample_rate=RATE, cache_mb=mb).open_all()[0]
        for mb in (1, 0)
    )
    copy = pickle.loads(pickle.dumps(kept))
    for i in range(5):
        assert kept.example(i).x.equal(fresh.example(i).x)
        assert copy.example(i).x.equal(fresh.example(i).x)


def test_a_missing_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(ValueError, match=r'pip install "vqkit\[audio\]"'):
        decode_sound(b"RIFF", PLAIN)
