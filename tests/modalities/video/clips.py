"""Clips that tests make of photographs: windows that wander, as files of any kind; tiny models."""

import io
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.modalities.video import CausalVideoConfig, VideoModality, VideoModelConfig
from vqkit.quantizers import EMAConfig

FPS = 8.0


@lru_cache
def photos(height: int = 64) -> tuple[np.ndarray, ...]:
    """The two photographs of scikit-learn, made smaller. Each (H, W, 3) uint8"""
    found = []
    for picture in load_sample_images().images:
        image = Image.fromarray(picture)
        found.append(np.asarray(image.resize((height * image.width // image.height, height))))
    return tuple(found)


def pan(
    number: int, num_frames: int, size: tuple[int, int] = (8, 8), channels: int = 3
) -> np.ndarray:
    """A window that wanders over a photograph. (C, T, H, W) uint8

    Args:
        number: Even over the one, odd over the other photograph; where from, and whereto.
        num_frames: T.
        size: H and W.
        channels: 1 or 3.
    """
    rng = np.random.default_rng(number)
    picture, (height, width) = photos()[number % 2], size
    room = picture.shape[0] - height, picture.shape[1] - width
    place, step = rng.integers(0, room), rng.integers(-2, 3, 2)
    frames = []
    for _ in range(num_frames):
        y, x = place.clip(0, room)
        frames.append(picture[y : y + height, x : x + width])
        place = place + step
    clip = np.stack(frames).transpose(3, 0, 1, 2)
    return np.ascontiguousarray(clip if channels == 3 else clip[1:2])


def pillow_file(clip: np.ndarray, kind: str, *, duration_ms: Any = 125, **options: Any) -> bytes:
    """A file that Pillow writes of a clip (C, T, H, W)."""
    frames = [np.moveaxis(frame, 0, 2) for frame in clip.swapaxes(0, 1)]
    images = [Image.fromarray(f[..., 0] if f.shape[2] == 1 else f) for f in frames]
    buffer = io.BytesIO()
    if len(images) == 1:
        images[0].save(buffer, format=kind, **options)
    else:
        more = {"save_all": True, "append_images": images[1:], "duration": duration_ms}
        images[0].save(buffer, format=kind, **more, **options)
    return buffer.getvalue()


def film_file(
    clip: np.ndarray,
    kind: str = "matroska",
    codec: str = "ffv1",
    *,
    fps: float = FPS,
    times: Sequence[int] | None = None,
) -> bytes:
    """A film that PyAV writes of a clip (3, T, H, W); ``times`` in hundredths of a second."""
    import av

    buffer = io.BytesIO()
    with av.open(buffer, "w", format=kind) as file:
        stream = file.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.width, stream.height = clip.shape[3], clip.shape[2]
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        if times is not None:
            stream.codec_context.time_base = Fraction(1, 100)
        for number, pixels in enumerate(clip.transpose(1, 2, 3, 0)):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            if times is not None:
                frame.pts, frame.time_base = times[number], Fraction(1, 100)
            file.mux(stream.encode(frame))
        file.mux(stream.encode())
    return buffer.getvalue()


def write_frames(folder: Path, clip: np.ndarray, kind: str = "png") -> Path:
    """A folder with an image file for each frame of a clip (C, T, H, W)."""
    folder.mkdir(parents=True)
    for number, frame in enumerate(clip.swapaxes(0, 1)):
        (folder / f"{number}.{kind}").write_bytes(pillow_file(frame[:, None], kind.upper()))
    return folder


def make_clips(folder: Path, num: int = 12, channels: int = 3) -> Path:
    """Clips of unequal lengths of the two photographs, in a sub-folder each; of many kinds."""
    for number in range(num):
        place = folder / ("china", "flower")[number % 2]
        place.mkdir(parents=True, exist_ok=True)
        clip = pan(number, 2 + number % 5, channels=channels)
        if number % 3 == 0:
            torch_clip = torch.from_numpy(clip)
            VideoModality(FPS).save(place / f"{number:02d}.apng", torch_clip)
        elif number % 3 == 1:
            write_frames(place / f"{number:02d}", clip)
        else:
            color = np.repeat(clip, 3, 0) if channels == 1 else clip
            (place / f"{number:02d}.mkv").write_bytes(film_file(color))
    (folder / "china" / "still.png").write_bytes(pillow_file(pan(num, 1), "PNG"))
    return folder


def config(**options: Any) -> VideoModelConfig:
    """A tiny model: one code for 2 frames and 4 x 4 pixels."""
    network = {"patch": 2, "strides": ((2, 2),), "hidden": 8, "depth": 1, "dim": 4}
    network |= {key: options.pop(key) for key in tuple(options) if key in network}
    quantizer = EMAConfig(codebook_size=16)
    own = {"network": CausalVideoConfig(**network), "quantizer": quantizer, "fps": FPS}
    return VideoModelConfig(**(own | options))


def model(**options: Any) -> VQVAE:
    """A tiny model whose codebook has started."""
    torch.manual_seed(0)
    found = VQVAE.from_config(config(**options))
    found.initialize([clips(8, 9, channels=found.config.channels)], seed=0)  # pyright: ignore
    return found.eval()


def clips(num: int, num_frames: int, size: tuple[int, int] = (8, 8), channels: int = 3) -> Tensor:
    """Some clips. (num, channels, num_frames, *size) uint8"""
    each = [pan(number, num_frames, size, channels) for number in range(num)]
    return torch.from_numpy(np.stack(each))


def ragged(lengths: Sequence[int], channels: int = 3) -> tuple[Tensor, Tensor]:
    """Clips of unequal lengths, more of them behind their ends, and their mask."""
    x = clips(len(lengths), max(lengths), channels=channels)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)
    return x, mask[..., None, None].expand(-1, -1, *x.shape[3:]).clone()
