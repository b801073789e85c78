"""Films (mp4, webm, mkv and what else FFmpeg reads) as frames, by PyAV."""

import io
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
from PIL import Image

MISSING = 'reading films needs PyAV; install it with: pip install "vqkit[video]"'
MICROSECONDS = 1_000_000
USUAL_FPS = 25  # of films that say nothing of it
CUT = "its end is missing"


@dataclass(frozen=True, slots=True)
class Frame:
    """A frame as it is stored.

    Attributes:
        pixels: Levels. (H, W, channels) uint8
        start_s: When it begins to be seen; None where nothing is said of time.
        end_s: When it ends to be seen.
    """

    pixels: np.ndarray
    start_s: float | None = None
    end_s: float | None = None


class _NoPicture(Exception):
    """There is no stream of pictures."""


def film(data: bytes, channels: int) -> Iterator[Frame]:
    """The frames of the first picture stream of a film, turned upright.

    Args:
        data: The bytes of its file.
        channels: 1 or 3.

    Raises:
        ValueError: If it cannot be decoded; the message says why and what to do, not where.
    """
    av = _av()
    try:
        with av.open(io.BytesIO(data)) as file:
            if not file.streams.video:
                raise _NoPicture
            stream = file.streams.video[0]
            usual = 1 / float(stream.average_rate or USUAL_FPS)
            before = None
            for frame in _decoded(file, stream, len(data), usual):
                if before is not None:
                    yield _shown(before, frame.time, usual, channels)
                before = frame
            if before is not None:
                yield _shown(before, None, usual, channels)
    except _NoPicture:
        raise ValueError(
            "holds no picture: it is cut, or has only sound; copy it again or remove it"
        ) from None
    except (av.FFmpegError, OSError, EOFError, ValueError, RuntimeError, MemoryError) as error:
        reason = str(getattr(error, "strerror", None) or error) or type(error).__name__
        reason = " ".join(reason.split())
        raise ValueError(f"is cut or no film ({reason}); copy it again") from None


def _decoded(file: Any, stream: Any, num_bytes: int, usual_s: float) -> Iterator[Any]:
    """The frames of a stream, as PyAV gives them; ValueError if the file was cut.

    FFmpeg takes the end of a file for the end of the film. That it is not is told by the index of
    an mp4 file, the length that a Matroska or WebM file has in its head, and the number of frames
    that an AVI file has there.
    """
    kinds = file.format.name
    ends = (entry.pos + entry.size for entry in getattr(stream, "index_entries", ()))
    if "mp4" in kinds and max(ends, default=0) > num_bytes:
        raise ValueError(CUT)
    reached_s, num = 0.0, 0
    for packet in file.demux():
        if packet.pts is not None and packet.time_base is not None:
            end = packet.pts + (packet.duration or 0)
            reached_s = max(reached_s, float(end * packet.time_base))
        if packet.stream.index == stream.index:
            num += packet.size > 0
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise ValueError("a frame is damaged")
                yield frame
    length_s = (file.duration or 0) / MICROSECONDS
    if "matroska" in kinds and reached_s + 2 * usual_s < length_s:
        raise ValueError(CUT)
    if "avi" in kinds and num < stream.frames:
        raise ValueError(CUT)


def _shown(frame: Any, following_s: float | None, usual_s: float, channels: int) -> Frame:
    """A decoded frame, which is seen until the next one is."""
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    if channels == 1:
        pixels = np.asarray(Image.fromarray(np.ascontiguousarray(pixels)).convert("L"))[..., None]
    start = frame.time
    if start is None:
        return Frame(pixels)
    end = start + usual_s if following_s is None else max(start, following_s)
    return Frame(pixels, start, end)


def _av() -> ModuleType:
    try:
        import av
    except (ImportError, OSError):  # the latter where a library that it needs is missing
        raise ValueError(MISSING) from None
    return av
