"""The whole path by commands, from a folder of clips to new clips."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.cli.conftest import Cli
from tests.cli.folders import TINY_PRIOR
from tests.modalities.video.clips import film_file, make_clips, pan, pillow_file
from tests.modalities.video.test_decoding import BAD

from vqkit.cli import run
from vqkit.cli.failures import guarded
from vqkit.config import load_config
from vqkit.tokens import TokenSet

TINY = [
    "data.size=8",
    "data.frames=5",
    "data.fps=null",
    "model.network.hidden=8",
    "model.network.strides=[[2,2]]",
    "model.network.units=0",
    "model.network.depth=1",
    "model.network.dim=4",
    "model.quantizer.codebook_size=8",
    "train.steps=4",
    "train.batch_size=8",
    "train.checkpoint_every=2",
    "train.num_workers=0",
    "train.device=cpu",
]


@dataclass(frozen=True)
class Made:
    clips: Path
    run: Path
    tokens: Path
    prior: Path


def call(*words: object) -> int:
    return guarded(run, [str(word) for word in words])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Clips of two classes, a tokenizer of them, their tokens, and a prior of those."""
    home = tmp_path_factory.mktemp("video")
    found = Made(home / "clips", home / "run", home / "tokens", home / "prior")
    make_clips(found.clips, 20)
    assert call("train", "video", f"data.path={found.clips}", *TINY, "-o", found.run) == 0
    assert call("encode", found.run, found.clips, found.tokens) == 0
    words = ["train-prior", found.tokens, *TINY_PRIOR, "-t", found.run, "-o", found.prior]
    assert call(*words) == 0
    return found


def num_frames(path: Path) -> int:
    with Image.open(path) as file:
        return getattr(file, "n_frames", 1)


def test_evaluate_gives_figures_over_time_and_a_page_that_moves(cli: Cli, made: Made):
    result = cli("evaluate", made.run)
    assert result.code == 0, result.err
    assert "over 2 clips, held-out:" in result.out
    assert "Motion error" in result.out
    metrics = json.loads((made.run / "metrics.json").read_text())
    assert {"psnr_db", "ssim", "psnr_db_frame_1", "motion_error", "flicker"} <= metrics.keys()
    assert metrics["bits_per_dim_uniform"] > 0
    assert metrics["bits_per_pixel"] == pytest.approx(3 * metrics["code_bits_per_dim_uniform"])
    page = (made.run / "report.html").read_text()
    assert page.count("data:image/apng;base64,") == 4


def test_inspect_speaks_of_clips(cli: Cli, made: Made):
    assert "over 2 clips:" in cli("inspect", made.run).out


def test_decoded_files_have_as_many_frames_as_those_that_were_encoded(
    cli: Cli, made: Made, tmp_path: Path
):
    result = cli("decode", made.run, made.tokens, tmp_path / "out")
    assert result.code == 0, result.err
    assert "21 clips" in result.out
    tokens = TokenSet.open(made.tokens)
    assert (tmp_path / "out" / "china" / "still.apng").is_file()
    for number in range(20):
        (path,) = (tmp_path / "out").rglob(f"{number:02d}.apng")
        assert num_frames(path) == 2 + number % 5
    assert {tokens.size(i)[1:] for i in range(21)} == {(8, 8)}  # pyright: ignore


def test_new_clips_have_lengths_that_were_seen(cli: Cli, made: Made, tmp_path: Path):
    result = cli("sample", made.prior, "-n", 6, "-o", tmp_path / "new")
    assert result.code == 0, result.err
    lengths = [num_frames(path) for path in sorted((tmp_path / "new").glob("*.apng"))]
    assert len(lengths) == 6
    assert set(lengths) <= {1, 3, 5, 7}
    assert (tmp_path / "new" / "contact-sheet.png").is_file()


@pytest.mark.parametrize("kind", ["absorbing_diffusion", "uniform_diffusion", "depth_transformer"])
def test_other_priors_learn_codes_of_space_and_time(
    cli: Cli, made: Made, tmp_path: Path, kind: str
):
    words = [f"prior.type={kind}", *TINY_PRIOR, "-t", made.run, "-o", tmp_path / "prior"]
    result = cli("train-prior", made.tokens, *words)
    assert result.code == 0, result.err
    result = cli("sample", tmp_path / "prior", "-n", 3, "-o", tmp_path / "new")
    assert result.code == 0, result.err
    assert len(list((tmp_path / "new").glob("*.apng"))) == 3


def test_new_clips_of_unequal_lengths_are_judged(cli: Cli, made: Made):
    result = cli("evaluate", made.prior)
    assert result.code == 0, result.err
    metrics = json.loads((made.prior / "metrics.json").read_text())["generation"]
    assert metrics["learned"]["frechet_distance"] >= 0
    assert (made.prior / "pictures" / "neighbors.png").is_file()


def test_bad_clips_are_listed_and_left_out(cli: Cli, made: Made, tmp_path: Path):
    make_clips(tmp_path / "clips", 4)
    for name, (make, _) in BAD.items():
        (tmp_path / "clips" / "china" / name).write_bytes(make())
    result = cli("encode", made.run, tmp_path / "clips", tmp_path / "tokens")
    assert result.code == 0, result.err
    assert f"{len(BAD)} clips cannot be read and are left out:" in result.err
    assert "Traceback" not in result.err
    assert len(TokenSet.open(tmp_path / "tokens")) == 5


def test_a_still_image_and_a_film_are_encoded_by_their_names(cli: Cli, made: Made, tmp_path: Path):
    (tmp_path / "one.png").write_bytes(pillow_file(pan(0, 1, (20, 16)), "PNG"))
    (tmp_path / "two.mkv").write_bytes(film_file(pan(0, 4)))
    for name, size in (("one.png", (1, 8, 8)), ("two.mkv", (4, 8, 8))):
        tokens = tmp_path / f"{name}-tokens"
        assert cli("encode", made.run, tmp_path / name, tokens).code == 0
        assert TokenSet.open(tokens).size(0) == size


def test_nothing_that_can_be_read_is_one_clear_line(cli: Cli, made: Made, tmp_path: Path):
    (tmp_path / "clips").mkdir()
    words = made.run, tmp_path / "clips", tmp_path / "tokens"
    assert "has no clips: it holds no files; put clips into it" in cli("encode", *words).failure
    (tmp_path / "clips" / "a.mp4").write_bytes(b"")
    found = cli("encode", *words).failure
    assert "1 of 1 items cannot be read" in found
    assert "a.mp4 is empty; remove it or copy it again" in found
    assert not (tmp_path / "tokens").exists()


def test_settings_that_do_not_fit_each_other_are_named(cli: Cli, made: Made, tmp_path: Path):
    words = ["train", "video", f"data.path={made.clips}", "-o", tmp_path / "run"]
    assert "data.fps is 4.0, model.fps 8.0; make them equal" in cli(*words, "data.fps=4").failure
    assert "data.channels is 1, model.channels 3" in cli(*words, "data.channels=1").failure
    found = cli(*words, "data.size=[60,64]").failure
    assert "data.size is (60, 64), but one code stands for 8 x 8 pixels; make it mult" in found
    assert not (tmp_path / "run").exists()


def test_features_probe_and_export_work_on_clips(cli: Cli, made: Made, tmp_path: Path):
    words = ["encode", made.run, made.clips, tmp_path / "features", "--features", "z_q"]
    assert cli(*words).code == 0
    result = cli("probe", made.run)
    assert result.code == 0, result.err
    result = cli("export", made.tokens, tmp_path / "export", "--format", "bin-idx")
    assert result.code == 0, result.err


def test_the_presets_of_clips_are_whole():
    for name in ("video", "video-small"):
        config = load_config(name, ["data.path=nowhere"])
        assert config.data.type == config.model.type == "video"
        assert (config.data.frames - 1) % config.model.network.hop == 0  # pyright: ignore


def test_a_film_of_another_rate_is_seen_at_the_models(cli: Cli, made: Made, tmp_path: Path):
    path = tmp_path / "a.mkv"
    path.write_bytes(film_file(np.repeat(pan(0, 3), 2, axis=1), fps=16))
    words = ["encode", made.run, path, tmp_path / "tokens", "data.fps=8"]
    assert cli(*words).code == 0
    assert TokenSet.open(tmp_path / "tokens").size(0) == (3, 8, 8)
