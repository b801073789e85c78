"""How good are clips at equal bits: causal video codes, each frame alone, and H.264?

Run: python benchmarks/video_clips.py WORK [--data FOLDER_OF_PARQUET_FILES] [--steps 200]

Clips are windows that wander and grow or shrink over photographs, 17 frames of 64 x 64: over the
two that scikit-learn ships, the left three quarters for training and the right quarter held out, or
over the images of Parquet files, every fourth one held out. The preset video is trained for so many
steps of 8 clips. Beside it: an image model with 4 x 4 codes for each frame alone, at about the same
bits, trained on as many frames for as much process CPU time; and H.264 (libx264 by PyAV,
preset veryslow, one key frame), whose PSNR and SSIM are read off between its own at the two nearest
rates. Its bits are those of its pictures, without headers and container; they are turned to
4:2:0 and back, as all such films are. The bits of codes are those of fixed length.
"""

import argparse
import io
import math
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pyarrow.parquet as pq
import torch
from measuring import heading
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import Tensor

from vqkit.autoencoder import VQVAE
from vqkit.config import load_config
from vqkit.data import TensorExamples
from vqkit.evaluation import evaluate
from vqkit.modalities.image import ConvConfig, ImageModelConfig
from vqkit.modalities.image.fit import Framing
from vqkit.modalities.video import VideoMetrics, VideoModality
from vqkit.modalities.video.decoding import Form, decode_clip
from vqkit.quantizers import EMAConfig
from vqkit.training import TrainConfig, fit

SIDE, FRAMES, FPS, ENTRIES = 64, 17, 8, 512
HELD_OUT = 48  # clips
CRFS = (24, 28, 32, 36, 40, 44, 48, 51)
COLUMNS = (
    "bits/frame",
    "bits/pixel",
    "PSNR",
    "SSIM",
    "frame 1",
    "frames 9-16",
    "motion",
    "flicker",
)
FIGURES = ("psnr_db", "ssim", "psnr_db_frame_1", "psnr_db_frames_9_16", "motion_error", "flicker")
PICTURES = (1, 5)  # the kinds of units of H.264 that are pictures
Box = tuple[int, int, int, int]


def photographs(folder: Path | None) -> tuple[list[Image.Image], list[Image.Image]]:
    """For training, and held out."""
    if folder is None:
        pictures = [Image.fromarray(each) for each in load_sample_images().images]
        cuts: list[tuple[Box, Box]] = [
            ((0, 0, p.width * 3 // 4, p.height), (p.width * 3 // 4, 0, p.width, p.height))
            for p in pictures
        ]
        pairs = zip(pictures, cuts, strict=True)
        parts = [(picture.crop(left), picture.crop(right)) for picture, (left, right) in pairs]
        return [left for left, _ in parts], [right for _, right in parts]
    files = sorted(folder.glob("*.parquet"))
    rows = [row for file in files for row in pq.read_table(file).column(0).to_pylist()]
    images = [Image.open(io.BytesIO(row["bytes"])).convert("RGB") for row in rows]
    return [x for i, x in enumerate(images) if i % 4], images[::4]


def clip(picture: Image.Image, rng: np.random.Generator) -> Tensor:
    """A window that wanders over a photograph and changes its size. (3, FRAMES, SIDE, SIDE)"""
    least, most = min(SIDE, *picture.size), min(picture.size)
    sizes = rng.uniform(least, most) * rng.uniform(0.85, 1.18, 2)
    ends, frames = rng.uniform(0, 1, (2, 2)), []
    ends[1] = (ends[0] + rng.uniform(-0.4, 0.4, 2)).clip(0, 1)
    for share in np.linspace(0, 1, FRAMES):
        size = float(np.clip(sizes[0] + share * (sizes[1] - sizes[0]), least, most))
        x, y = ends[0] + share * (ends[1] - ends[0])
        left, top = x * (picture.width - size), y * (picture.height - size)
        box = (left, top, left + size, top + size)
        frames.append(picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC, box=box))
    return torch.from_numpy(np.stack([np.asarray(f) for f in frames]).transpose(3, 0, 1, 2).copy())


def clips(pictures: list[Image.Image], num: int, seed: int) -> Tensor:
    """Clips of the photographs in turn. (num, 3, FRAMES, SIDE, SIDE)"""
    rng = np.random.default_rng(seed)
    return torch.stack([clip(pictures[i % len(pictures)], rng) for i in range(num)])


def row(bits_per_frame: float, figures: dict[str, Any]) -> list[float]:
    return [bits_per_frame, bits_per_frame / SIDE**2, *(figures[key] for key in FIGURES)]


def video(options: argparse.Namespace, train: Tensor, held_out: Tensor) -> tuple[list[float], Any]:
    """The preset: its figures, and its process CPU time in s."""
    words = [f"model.quantizer.codebook_size={ENTRIES}", "data.path=none"]
    torch.manual_seed(0)
    model = VQVAE.from_config(load_config("video", words).model)
    begin = time.process_time()
    fit(model, TensorExamples(train), recipe(options.steps, 8))
    spent = time.process_time() - begin
    found = evaluate(model, TensorExamples(held_out), num_shown=0, num_entries=0, batch_size=8)
    show(options.work, model, held_out[:6])
    return row(found.metrics["code_bits_uniform"] / FRAMES, found.metrics), spent


def recipe(steps: int, batch_size: int) -> TrainConfig:
    return TrainConfig(
        steps=steps,
        batch_size=batch_size,
        learning_rate=2e-3,
        warmup_steps=30,
        clip_norm=1.0,
        progress="none",
        device="cpu",
    )


def show(work: Path, model: VQVAE, x: Tensor) -> None:
    """Some held-out clips above what became of them, as a film."""
    y = model.objective.modality.stored(model.decode(model.encode(x)))
    both = torch.cat([torch.cat(list(each), dim=3) for each in (x, y)], dim=2)
    work.mkdir(parents=True, exist_ok=True)
    VideoModality(FPS).save(work / "video-clips.apng", both)


def frames_alone(budget_s: float, train: Tensor, held_out: Tensor) -> tuple[list[float], float]:
    """An image model of each frame, with 4 x 4 codes."""
    torch.manual_seed(0)
    network = ConvConfig(hidden=64, residual_hidden=32, downsampling=16, dim=64)
    config = ImageModelConfig(network=network, quantizer=EMAConfig(codebook_size=ENTRIES))
    model = VQVAE.from_config(config)
    frames = TensorExamples(train.movedim(2, 1).flatten(0, 1))
    times = []
    for steps in (5, 25):  # the start of the codebook takes time, too
        begin = time.process_time()
        fit(VQVAE.from_config(config), frames, recipe(steps, 64))
        times.append(time.process_time() - begin)
    steps = max(50, int(20 * (budget_s - times[0]) / (times[1] - times[0])))
    begin = time.process_time()
    fit(model, frames, recipe(steps, 64))
    spent, metrics = time.process_time() - begin, VideoMetrics()
    for x in held_out:
        codes = model.encode(x.movedim(1, 0))
        metrics.add(x[None], model.decode(codes).movedim(0, 1)[None])
    bits = sum(spec.bits for spec in codes.specs)
    return row(bits, metrics.results()), spent


def h264(x: Tensor, crf: int) -> tuple[int, Tensor]:
    """Bytes of the pictures of a clip (3, T, H, W), and what becomes of it, likewise uint8."""
    buffer, num_bytes = io.BytesIO(), 0
    with av.open(buffer, "w", format="matroska") as file:
        options = {"crf": str(crf), "preset": "veryslow", "tune": "psnr", "g": "999"}
        stream = file.add_stream("libx264", rate=FPS, options=options)
        stream.width, stream.height, stream.pix_fmt = SIDE, SIDE, "yuv420p"
        frames = [
            av.VideoFrame.from_ndarray(np.ascontiguousarray(f), format="rgb24")
            for f in x.numpy().transpose(1, 2, 3, 0)
        ]
        for frame in (*frames, None):
            packets = stream.encode(frame)
            num_bytes += sum(picture_bytes(bytes(packet)) for packet in packets)
            file.mux(packets)
    form = Form(Framing(None, "crop", False, 3))
    return num_bytes, torch.from_numpy(decode_clip(buffer.getvalue(), form).levels)


def picture_bytes(packet: bytes) -> int:
    """Bytes of a packet that say what is seen: x264 also writes its own settings, 700 bytes."""
    units = packet.replace(b"\0\0\0\1", b"\0\0\1").split(b"\0\0\1")[1:]
    return sum(3 + len(unit) for unit in units if unit[0] & 31 in PICTURES)


def h264_rows(held_out: Tensor) -> list[list[float]]:
    """H.264 at each quality, the fewest bits first."""
    rows = []
    for crf in sorted(CRFS, reverse=True):
        metrics, num_bytes = VideoMetrics(), 0
        for x in held_out:
            size, y = h264(x, crf)
            num_bytes += size
            metrics.add(x[None], y[None])
        rows.append(row(8 * num_bytes / len(held_out) / FRAMES, metrics.results()))
    return rows


def between(rows: list[list[float]], bits: float) -> list[float]:
    """The figures of rows at so many bits, straight over their logarithm; ends beyond them."""
    known = np.log([each[0] for each in rows])
    return [float(np.interp(math.log(bits), known, column)) for column in zip(*rows, strict=True)]


def shown(name: str, values: list[float]) -> str:
    digits = (1, 4, 2, 3, 2, 2, 2, 2)
    cells = (f"{v:>12.{n}f}" for v, n in zip(values, digits, strict=True))
    return f"{name:<22}{''.join(cells)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path, help="where the film of some clips goes")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--clips", type=int, default=400, help="for training")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for_training, others = photographs(options.data)
    train, held_out = clips(for_training, options.clips, 0), clips(others, HELD_OUT, 1)
    of_video, spent = video(options, train, held_out)
    alone, too = frames_alone(spent, train, held_out)
    peers = h264_rows(held_out)
    print(heading("Clips of 17 frames of 64 x 64, held out: quality at equal bits"))
    whose = "scikit-learn's two photographs" if options.data is None else "photographs"
    print(f"{len(for_training)} {whose} for training, {len(others)} held out, {HELD_OUT} clips")
    print(f"preset video: {options.steps} steps of 8 clips, {spent / 60:.1f} CPU minutes")
    print(f"each frame alone: image model, 4 x 4 codes, {too / 60:.1f} CPU minutes")
    print(f"PSNR in dB, SSIM: means over frames; codes of {ENTRIES} entries, of fixed length\n")
    print(f"{'':<22}{''.join(f'{name:>12}' for name in COLUMNS)}")
    print(shown("preset video", of_video))
    print(shown("each frame alone", alone))
    print(shown("H.264 at as many bits", between(peers, of_video[0])))
    print("\nH.264, from crf 51 to 24")
    for values in peers:
        print(shown("", values))


if __name__ == "__main__":
    main()
