"""Any sound file as floats of one rate and number of channels."""

import io
import math
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np

from vqkit.modalities.audio.levels import FULL_SCALE, LIMIT

Normalize = Literal["none", "peak"]
MOST_CHANNELS = 2
LEAST_RATE = 1000  # Hz; what says less is wrong, and would become millions of samples
UNKNOWN = (0, 2**32 - 1)  # sizes that are written where nobody knew
MISSING = 'reading sound needs {name}; install it with: pip install "vqkit[audio]"'


@dataclass(frozen=True, slots=True)
class Form:
    """What is made of a recording.

    Attributes:
        sample_rate: Hz.
        channels: 1 or 2.
        normalize: Whether each is made as loud as can be (peak), or stays as it is (none).
    """

    sample_rate: int
    channels: int
    normalize: Normalize


def decode_sound(value: Any, form: Form) -> np.ndarray:
    """Decodes a recording.

    Two channels become one by their mean, one becomes two by repetition; other rates are resampled
    by a polyphase filter (``scipy.signal.resample_poly``).

    Args:
        value: The bytes of a file that libsndfile reads.
        form: What is made of it.

    Returns:
        Samples, in [-1, 1] or a little beyond. (channels, T) float32

    Raises:
        ValueError: If it cannot be used; the message says why and what to do, not where.
    """
    if not isinstance(value, bytes):
        raise ValueError(f"holds {type(value).__name__}; give the bytes of a sound file")
    samples, rate = read_sound(value)
    check_samples(samples)
    if len(samples) != form.channels:
        mono = samples.mean(0, keepdims=True)
        samples = mono if form.channels == 1 else np.repeat(mono, 2, axis=0)
    if rate != form.sample_rate:
        samples = resampled(samples, rate, form.sample_rate)
    peak = float(np.abs(samples).max())
    if form.normalize == "peak" and peak > 0:
        return samples / np.float32(peak)
    if peak > LIMIT:
        raise ValueError(
            f"has samples up to {peak:g}; scale them to [-1, 1], or set data.normalize=peak"
        )
    return samples


def read_sound(data: bytes) -> tuple[np.ndarray, int]:
    """The samples of a file (C, T) float32, and their rate in Hz; ValueError if there are none."""
    soundfile = _soundfile()
    if not data:
        raise ValueError("is empty; remove it or copy it again")
    if declared_bytes(data) > len(data):
        raise ValueError("is cut (its end is missing); copy it again")
    try:
        with soundfile.SoundFile(io.BytesIO(data)) as file:
            rate, channels = int(file.samplerate), int(file.channels)
            if rate < LEAST_RATE:
                raise ValueError(f"has a sample rate of {rate} Hz; write it again with its own")
            if channels > MOST_CHANNELS:
                raise ValueError(f"has {channels} channels; mix them to 1 or 2")
            return np.ascontiguousarray(file.read(dtype="float32", always_2d=True).T), rate
    except (soundfile.SoundFileError, OSError, MemoryError, RuntimeError, TypeError) as error:
        reason = " ".join(str(error).split()).partition("object at")[2].partition(">: ")[2]
        reason = reason or " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"is cut or no sound file ({reason}); copy it again") from None


def declared_bytes(data: bytes) -> int:
    """How long a file says that it is: wav, aiff, au, caf, and mp3 with a head; 0 if it does not.

    libsndfile takes the end of such a file for the end of the recording.
    """
    kind, at, known = data[:4], 0, 0
    if kind in (b"RIFF", b"RIFX", b"FORM") and len(data) >= 8:
        known = int.from_bytes(data[4:8], "little" if kind == b"RIFF" else "big")
        return 0 if known in UNKNOWN else 8 + known
    if kind == b".snd" and len(data) >= 12:
        known = int.from_bytes(data[8:12], "big")
        return 0 if known in UNKNOWN else int.from_bytes(data[4:8], "big") + known
    if kind == b"caff":
        at = 8
        while at + 12 <= len(data):  # from chunk to chunk
            size = int.from_bytes(data[at + 4 : at + 12], "big", signed=True)
            if size < 0:
                return 0
            at += 12 + size
        return at
    if data[:3] == b"ID3" and len(data) >= 10:  # four bytes of seven bits
        at = 10 + sum((byte & 127) << 7 * (3 - i) for i, byte in enumerate(data[6:10]))
    if data[at : at + 1] != b"\xff":
        return 0
    frame = data[at : at + 200]
    place = max(frame.find(name) for name in (b"Xing", b"Info"))
    if place < 0 or len(frame) < place + 16 or frame[place + 7] & 3 != 3:  # frames, then bytes
        return 0
    return at + int.from_bytes(frame[place + 12 : place + 16], "big")


def check_samples(samples: np.ndarray) -> None:
    """Raises ValueError unless there are several samples (C, T), and all are numbers."""
    length = samples.shape[1]
    if length < 2:
        count = "no samples" if not length else "1 sample"
        raise ValueError(f"has {count}; remove it, or record it again")
    if not np.isfinite(samples).all():
        at = int(np.flatnonzero(~np.isfinite(samples).all(0))[0])
        raise ValueError(f"has NaN or infinity at sample {at}; write it again with numbers alone")


def resampled(samples: np.ndarray, rate: int, wanted: int) -> np.ndarray:
    """Samples (C, T) of another rate, both in Hz. (C, T wanted / rate, rounded up) float32"""
    try:
        from scipy.signal import resample_poly
    except ImportError:
        raise ValueError(MISSING.format(name="scipy")) from None
    common = math.gcd(rate, wanted)
    up, down = wanted // common, rate // common
    if max(up, down) > FULL_SCALE:  # the filter has 20 times as many taps
        raise ValueError(f"has a sample rate of {rate} Hz; resample it to {wanted} Hz")
    return np.ascontiguousarray(resample_poly(samples, up, down, axis=1), dtype=np.float32)


def _soundfile() -> ModuleType:
    try:
        import soundfile
    except (ImportError, OSError):  # the latter where the library it needs is missing
        raise ValueError(MISSING.format(name="soundfile")) from None
    return soundfile
