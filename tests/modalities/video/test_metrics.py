"""What must hold for the figures of clips."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tests.modalities.video.clips import clips, ragged
from tests.pair import run_pair
from torch import Tensor

from vqkit import distributed
from vqkit.modalities.image.metrics import ImageMetrics
from vqkit.modalities.video import VideoMetrics
from vqkit.modalities.video.metrics import octave_name, octave_of


def noisy(x: Tensor, scale: float = 0.1) -> Tensor:
    return x.float() / 127.5 - 1 + scale * torch.randn(x.shape)


def results(x: Tensor, y: Tensor, mask: Tensor | None = None) -> dict[str, float]:
    metrics = VideoMetrics()
    metrics.add(x, y, mask)
    return metrics.results()


def test_figures_of_frames_are_those_of_images():
    x = clips(3, 5, (16, 12))
    y = noisy(x)
    images = ImageMetrics()
    for frame, other in zip(x.unbind(2), y.unbind(2), strict=True):
        images.add(frame, other)
    found = results(x, y)
    expected = images.results()
    assert {key: found[key] for key in expected} == pytest.approx(expected)


def test_psnr_by_number_equals_a_loop_in_numpy():
    x = clips(2, 7)
    y = noisy(x)
    found = results(x, y)
    error = ((y.double().numpy() + 1) / 2 - x.double().numpy() / 255) ** 2
    each = -10 * np.log10(error.mean((1, 3, 4)))  # (B, T)
    groups = {"frame_1": [0], "frame_2": [1], "frames_3_4": [2, 3], "frames_5_8": [4, 5, 6]}
    for name, numbers in groups.items():
        assert found[f"psnr_db_{name}"] == pytest.approx(each[:, numbers].mean())
    assert sum(key.startswith("psnr_db_frame") for key in found) == 4


def test_motion_and_flicker_equal_loops_in_numpy():
    x = clips(3, 6)
    y = noisy(x)
    found = results(x, y)
    a, b = x.double().numpy() / 255, (y.double().numpy() + 1) / 2
    error, change, pairs = 0.0, 0.0, 0.0
    for clip in range(3):
        for t in range(5):
            moved, seen = a[clip, :, t + 1] - a[clip, :, t], b[clip, :, t + 1] - b[clip, :, t]
            error += ((seen - moved) ** 2).sum()
            change += (moved**2).sum()
            pairs += ((a - b)[clip, :, t] ** 2).sum() + ((a - b)[clip, :, t + 1] ** 2).sum()
    assert found["motion_error"] == pytest.approx(error / change)
    assert found["flicker"] == pytest.approx(error / pairs)


def test_limits_of_motion_and_flicker():
    x = clips(4, 9)
    exact = x.float() / 127.5 - 1
    assert results(x, exact)["motion_error"] < 1e-9
    still = exact[:, :, :1].expand_as(exact)
    assert results(x, still)["motion_error"] == pytest.approx(1)
    steady = exact + 0.2 * torch.randn(4, 3, 1, 8, 8)
    assert results(x, steady)["flicker"] < 1e-6
    assert results(x, noisy(x))["flicker"] == pytest.approx(1, abs=0.15)


def test_a_masked_batch_gives_what_its_items_give_alone():
    lengths = [7, 3, 1, 2]
    x, mask = ragged(lengths)
    y = noisy(x)
    alone = VideoMetrics()
    for i, length in enumerate(lengths):
        alone.add(x[i : i + 1, :, :length], y[i : i + 1, :, :length])
    assert results(x, y, mask) == pytest.approx(alone.results())
    other = torch.where(mask.unsqueeze(1), y, torch.randn_like(y))
    assert results(x, other, mask) == pytest.approx(alone.results())


def test_frames_with_holes_count_their_real_pixels():
    x = clips(2, 4)
    y, mask = noisy(x), torch.ones(2, 4, 8, 8, dtype=torch.bool)
    mask[:, :, 6:] = False
    found, expected = results(x, y, mask), results(x[..., :6, :], y[..., :6, :])
    assert found == pytest.approx(expected)


def test_still_images_have_no_motion():
    found = results(clips(3, 1), noisy(clips(3, 1)))
    assert "motion_error" not in found
    assert "flicker" not in found
    assert found["psnr_db"] == pytest.approx(found["psnr_db_frame_1"])


def test_figures_do_not_depend_on_the_batches(monkeypatch: pytest.MonkeyPatch):
    x = clips(5, 6)
    y, parts = noisy(x), VideoMetrics()
    whole = results(x, y)
    monkeypatch.setattr("vqkit.modalities.video.metrics.AT_ONCE", 7)
    for i in range(5):
        parts.add(x[i : i + 1], y[i : i + 1])
    assert parts.results() == pytest.approx(whole)
    assert results(x, y) == pytest.approx(whole)


def share(first: int) -> dict[str, float]:
    """The figures, with ``first`` clips on the first rank and the others on the second."""
    x = clips(5, 6)
    torch.manual_seed(0)
    y, metrics = noisy(x), VideoMetrics()
    own = slice(first) if distributed.is_main() else slice(first, None)
    metrics.add(x[own], y[own])
    return metrics.results()


@pytest.mark.slow
@pytest.mark.parametrize("first", [3, 5])  # of 5: the second rank may have none
def test_two_processes_give_the_figures_of_one(tmp_path: Path, first: int):
    x = clips(5, 6)
    torch.manual_seed(0)
    expected = results(x, noisy(x))
    for found in run_pair(share, tmp_path, first):
        assert found == pytest.approx(expected)


def test_nothing_has_no_figures():
    assert VideoMetrics().results() == {}


def test_octaves_are_one_two_three_to_four_and_so_on():
    numbers = torch.arange(1, 70)
    expected = [math.ceil(math.log2(number)) for number in numbers.tolist()]
    assert octave_of(numbers).tolist() == expected
    names = [octave_name(i) for i in range(5)]
    assert names == ["frame_1", "frame_2", "frames_3_4", "frames_5_8", "frames_9_16"]
