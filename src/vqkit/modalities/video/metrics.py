"""How far reconstructions are from clips, frame by frame and over time, over a whole split."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vqkit.distributed import all_reduce
from vqkit.means import Mean
from vqkit.modalities.image.levels import to_level
from vqkit.modalities.image.metrics import ROUNDING, ImageMetrics, psnr

OCTAVES = 32  # of the number of a frame: 1, 2, 3 to 4, 5 to 8, and so on
AT_ONCE = 256  # frames
MOVES = ("change_error", "change", "pair_error")


class VideoMetrics:
    """Those of images for each frame, PSNR by the number of the frame, and how pictures move.

    Kept as float64 totals and counts: the figures depend neither on the batches nor on the ranks.

    Args:
        device: Where the clips are.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self.frames = ImageMetrics(device=device)
        self.octaves = torch.zeros(2, OCTAVES, dtype=torch.float64, device=device)
        self.moves = torch.zeros(len(MOVES), dtype=torch.float64, device=device)

    @torch.no_grad()
    def add(self, x: Tensor, reconstruction: Tensor, mask: Tensor | None = None) -> None:
        """Counts a batch in.

        Args:
            x: Clips, uint8 or floating in [-1, 1]. (B, C, T, H, W)
            reconstruction: The model's, floating in [-1, 1]. (B, C, T, H, W)
            mask: True where a pixel is real; None when all are. (B, T, H, W) bool
        """
        pixels = torch.ones_like(x[:, 0], dtype=torch.bool) if mask is None else mask
        real = pixels.flatten(2).any(2)  # (B, T)
        sides = [each.movedim(2, 1)[real] for each in (x, reconstruction)]  # (N, C, H, W)
        holes = None if pixels[real].all() else pixels[real]
        for start in range(0, len(sides[0]), AT_ONCE):
            some = slice(start, start + AT_ONCE)
            first, second = (side[some] for side in sides)
            self.frames.add(first, second, None if holes is None else holes[some])
        for one, other, seen in zip(x, reconstruction, pixels, strict=True):
            self._add_clip(one, other, seen)

    def _add_clip(self, x: Tensor, y: Tensor, pixels: Tensor) -> None:
        """Counts in what the order of the frames of one clip (C, T, H, W) matters for."""
        x, y = to_level(x) / 255, to_level(y) / 255
        seen = pixels.unsqueeze(0).expand_as(x)
        error = (y - x).masked_fill(~seen, 0)
        num = seen.sum((0, 2, 3))  # (T,)
        mse = error.square().sum((0, 2, 3)) / num.clamp(min=1)
        octave = octave_of(torch.arange(1, len(num) + 1, device=x.device))
        values = torch.stack([psnr(mse.clamp(min=ROUNDING)), torch.ones_like(mse)])
        self.octaves.index_add_(1, octave[num > 0], values[:, num > 0])
        both = seen[:, 1:] & seen[:, :-1]
        before, after = (each.masked_fill(~both, 0) for each in (error[:, :-1], error[:, 1:]))
        change = (x[:, 1:] - x[:, :-1]).masked_fill(~both, 0)
        squares = (after - before).square(), change.square(), before.square() + after.square()
        self.moves += torch.stack([each.sum() for each in squares])

    def results(self) -> dict[str, float]:
        """The figures over all batches of all ranks; every rank must call it.

        Returns:
            Those of ``ImageMetrics``, of which ``psnr_db`` and ``ssim`` are means over frames;
            ``psnr_db_frame_1``, ``psnr_db_frame_2``, ``psnr_db_frames_3_4`` and so on, by the
            number of the frame, as far as there are any; ``motion_error``, the energy of the error
            of changes from frame to frame over that of the changes, unless nothing changes; and
            ``flicker``, the same over the energy of the errors of both frames. Empty when there was
            nothing.
        """
        found = self.frames.results()
        totals, counts = all_reduce(self.octaves.clone())
        error, change, pairs = all_reduce(self.moves.clone()).tolist()
        for number in counts.nonzero().flatten().tolist():
            mean = Mean(totals[number], counts[number].round().long())
            found[f"psnr_db_{octave_name(number)}"] = float(mean.value)
        if change > 0:
            found["motion_error"] = error / change
        if pairs > 0:
            found["flicker"] = error / pairs
        return found


def octave_of(numbers: Tensor) -> Tensor:
    """Which of the ranges 1, 2, 3 to 4, 5 to 8 and so on numbers from 1 on are in. (N,) int64"""
    ends = 2 ** torch.arange(OCTAVES, device=numbers.device)
    return torch.bucketize(numbers, ends)


def octave_name(octave: int) -> str:
    """Such as ``frame_2`` or ``frames_5_8``."""
    last, first = 2**octave, 2 ** (octave - 1) + 1 if octave else 1
    return f"frame_{last}" if first == last else f"frames_{first}_{last}"


def curve(metrics: dict[str, float]) -> Sequence[tuple[str, float]]:
    """PSNR in dB by the number of the frame, of what ``results`` gave, in order."""
    names = ((name, f"psnr_db_{name}") for name in map(octave_name, range(OCTAVES)))
    return [(name.replace("_", " ", 1), metrics[key]) for name, key in names if key in metrics]
