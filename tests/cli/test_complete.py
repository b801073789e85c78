"""Completing images by a prior."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tests.cli.conftest import Cli, Made
from tests.cli.test_path import pictures, read

from vqkit.autoencoder import VQVAE
from vqkit.cli.complete import Side, check_size, part_of
from vqkit.priors import Prior

GROUPS = ("completed", "given", "original")


def test_the_top_is_kept_and_the_rest_is_drawn(cli: Cli, made: Made, tmp_path: Path):
    words = ["complete", made.prior, made.images, "-o", tmp_path / "out", "-n", 5]
    result = cli(*words)
    assert result.code == 0, result.err
    assert result.out.startswith(f"5 images: {tmp_path / 'out'}")
    found = pictures(tmp_path / "out")
    assert {path.parent.name for path in found} == set(GROUPS)
    assert len(found) == 15
    for name in ("0000.png", "0004.png"):
        completed, given, original = (read(tmp_path / "out" / g / name) for g in GROUPS)
        half = len(original) // 2
        assert np.array_equal(given[:half], original[:half])
        assert (given[half:] == 128).all()
        assert completed.shape == original.shape
    record = json.loads((tmp_path / "out" / "samples.json").read_text())
    assert record["completed"] == {
        "data": str(made.images),
        "keep": 0.5,
        "side": "top",
        "class": None,
    }
    with Image.open(tmp_path / "out" / "contact-sheet.png") as sheet:
        assert sheet.width > 2 * sheet.height / 3


def test_all_kept_gives_the_reconstructions_whatever_the_seed(cli: Cli, made: Made, tmp_path: Path):
    for seed in (0, 1):
        words = ["--keep", "1", "--seed", seed, "-n", 3, "-o", tmp_path / str(seed)]
        assert cli("complete", made.prior, made.images, *words).code == 0
    for name in ("0000.png", "0002.png"):
        first, second = (read(tmp_path / s / "completed" / name) for s in ("0", "1"))
        assert np.array_equal(first, second)


def test_a_side_that_the_prior_cannot_complete_from_is_refused_in_one_line(
    cli: Cli, made: Made, tmp_path: Path
):
    words = ["--side", "bottom", "-o", tmp_path / "out"]
    failure = cli("complete", made.prior, made.images, *words).failure
    assert failure == (
        "--side bottom: a prior of type transformer draws one code after another and cannot draw "
        "what comes before those that are kept; give --side top, or use a diffusion prior"
    )
    assert not (tmp_path / "out").exists()


def test_images_of_other_classes_need_a_class(cli: Cli, made: Made, tmp_path: Path):
    plain = next(path for path in made.images.rglob("*") if path.is_file()).parent
    words = ["complete", made.prior, plain, "-n", 2, "-o", tmp_path / "out"]
    assert "have other classes than the prior" in cli(*words).failure
    assert cli(*words, "--class", "0").code == 0


def test_images_that_have_other_codes_are_refused(made: Made):
    model, prior = VQVAE.from_pretrained(made.run), Prior.from_pretrained(made.prior)
    x = torch.zeros(1, 3, 12, 16, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"the images, read as 12 x 16, have .* codes, the prior"):
        check_size(model.encode(x), prior, x)


@pytest.mark.parametrize(
    ("side", "expected"),
    [
        ("top", [[1, 1, 1, 1], [1, 1, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]),
        ("bottom", [[0, 0, 0, 0], [0, 0, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]),
        ("left", [[1, 1, 0, 0]] * 4),
        ("right", [[0, 0, 1, 1]] * 4),
        ("border", [[1, 1, 1, 1], [1, 0, 0, 1], [1, 0, 0, 1], [1, 1, 1, 1]]),
    ],
)
def test_a_part_is_kept_from_its_side(side: str, expected: list[list[int]]):
    assert part_of((4, 4), 0.5, side).long().tolist() == expected


@pytest.mark.parametrize("keep", [0.0, 0.25, 0.5, 0.75, 1.0])
@pytest.mark.parametrize("side", ["top", "left", "border"])
def test_so_much_is_kept_as_is_asked_for_whatever_the_side(side: Side, keep: float):
    assert part_of((32, 32), keep, side).double().mean() == pytest.approx(keep, abs=0.03)


@pytest.mark.parametrize("grid", [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (9, 9), (4, 7)])
def test_a_border_is_as_near_as_can_be_to_what_is_asked_for(grid: tuple[int, ...]):
    assert part_of(grid, 1.0, "border").all()
    assert not part_of(grid, 0.0, "border").any()
    square = len(set(grid)) == 1 and len(grid) == 2
    for keep in (0.2, 0.25, 0.5, 0.6):
        found = part_of(grid, keep, "border")
        assert torch.equal(found, found.flip(*range(len(grid))))  # as wide on either side
        if square:
            n = grid[0]
            possible = [1 - (n - 2 * width) ** 2 / n**2 for width in range(n // 2 + 1)]
            nearest = min(abs(each - keep) for each in [*possible, 1.0])
            assert abs(float(found.double().mean()) - keep) == pytest.approx(nearest)


def test_settings_of_the_data_count_as_in_encoding(cli: Cli, made: Made, tmp_path: Path):
    words = ["complete", made.prior, made.images, "-n", 2]
    failure = cli(*words, "data.size=32", "-o", tmp_path / "other").failure
    assert "the images, read as 32 x 32, have 8x8 codes, the prior draws 2x2" in failure
    assert "add data.size=SIZE" in failure
    assert cli(*words, "data.resize=pad", "-o", tmp_path / "out").code == 0


def test_a_line_has_no_left_side():
    assert part_of((4,), 0.5, "top").tolist() == [True, True, False, False]
    assert torch.equal(part_of((4,), 0.0, "bottom"), torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="--side left: the codes lie on a line"):
        part_of((4,), 0.5, "left")
