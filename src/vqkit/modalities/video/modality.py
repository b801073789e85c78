"""What is particular to clips, for all that shows, plays, measures and writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vqkit.atomic import atomic_file
from vqkit.modalities.base import Figure, Media, bit_rates
from vqkit.modalities.image.pictures import contact_sheet, enlarge, to_uint8
from vqkit.modalities.video.metrics import VideoMetrics
from vqkit.modalities.video.moving import apng_bytes

CHANNELS = (1, 3)
TIMES = "\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{NO-BREAK SPACE}"
TILES, COLUMNS, GAP = 4, 2, 2  # frames of a picture, beside each other, and pixels between
WHITE = 255
PLAYED = 64  # frames of a clip in a page
SIDE = 128  # pixels that small clips are enlarged to about, in a page


@dataclass(frozen=True, slots=True)
class VideoModality:
    """Clips of 8-bit frames of one or three channels.

    Attributes:
        fps: Frames for each second, when they are played.
        channels: 1 or 3.
    """

    fps: float = 8.0
    channels: int = 3

    name, item, items, suffix = "video", "clip", "clips", ".apng"
    an_item, collection = "a clip", None
    dimension = "one value of one pixel of one frame"
    plain = (8, "8-bit pixels")
    shows_entries = False
    figures = (
        Figure("psnr_db", "PSNR", "dB", "of each frame, the mean"),
        Figure("ssim", "SSIM", note="of each frame, the mean; 1 is a perfect copy"),
        Figure("psnr_db_frame_1", "PSNR of first frames", "dB"),
        Figure("motion_error", "Motion error", note="0 moves as it should, 1 as a still image"),
        Figure("flicker", "Flicker", note="1 if errors of frames are independent, 0 if they stay"),
        Figure("mse_over_variance", "MSE / variance", note="share of the variance that is lost"),
        Figure("bits_per_pixel", "Codes", "bits/pixel", "with codes of fixed length"),
        Figure("bits_per_pixel_prior", "Codes under the prior", "bits/pixel"),
    )
    scale = (
        "Values go from 0 (black) to 1 (white). PSNR and SSIM are means over frames. "
        "The motion error is the energy of the error of changes from frame to frame over that of "
        "the changes; flicker is the same over the energy of the errors themselves. Pictures show "
        "four frames of a clip, evenly spread, row by row."
    )

    def size(self, shape: Sequence[int]) -> str:
        """Height and width; clips have lengths of their own."""
        return f"of {TIMES.join(map(str, shape[2:]))} pixels"

    def metrics(self, device: torch.device | str) -> VideoMetrics:
        """What measures reconstructions."""
        return VideoMetrics(device=device)

    def rates(self, metrics: Mapping[str, Any]) -> dict[str, float]:
        """Bits of the codes for each pixel of each frame, all its channels together.

        Args:
            metrics: Figures of an evaluation.

        Returns:
            ``bits_per_pixel`` and, under a prior, ``bits_per_pixel_prior``.
        """
        return bit_rates(metrics, "bits_per_pixel", self.channels)

    def stored(self, x: Tensor) -> Tensor:
        """Grey levels. (B, C, T, H, W) uint8"""
        return to_uint8(x)

    def save(self, path: Path, x: Tensor) -> None:
        """Writes one clip (C, T, H, W) uint8 as an animated PNG file."""
        with atomic_file(path) as part:
            part.write_bytes(apng_bytes(x, self.fps))

    def pictures(self, x: Tensor) -> Tensor | None:
        """Four frames of each clip, evenly spread, row by row; fewer of shorter ones.

        None if they have other channels. (B, C, 2 H + gap, 2 W + gap) uint8
        """
        if x.dim() != 5 or x.shape[1] not in CHANNELS:
            return None
        num = min(TILES, x.shape[2])
        places = [i * (x.shape[2] - 1) // max(1, num - 1) for i in range(num)]
        frames = to_uint8(x).movedim(2, 1)[:, places]  # (B, num, C, H, W)
        white = torch.full_like(frames[:, :1], WHITE).expand(-1, TILES - num, -1, -1, -1)
        sheets = [contact_sheet(each, COLUMNS, gap=GAP) for each in torch.cat([frames, white], 1)]
        return torch.stack(sheets)

    def media(self, x: Tensor) -> Media:
        """One clip (C, T, H, W) as an animated image, its first frames."""
        shown = enlarge(to_uint8(x[:, :PLAYED]), SIDE)
        return Media("image", "image/apng", apng_bytes(shown, self.fps))
