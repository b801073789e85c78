"""The whole path by commands with codes of two levels, from a folder of images to new ones."""

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY, TINY_PRIOR

from vqkit.autoencoder import VQVAE
from vqkit.cli import run
from vqkit.cli.failures import guarded
from vqkit.config import load_config
from vqkit.quantizers import EMAConfig, FSQConfig
from vqkit.tokens import TokenSet

LEVELS = [
    *[word for word in TINY if "codebook_size" not in word],
    "train.num_workers=0",
    "model.network.levels=2",
    "model.network.downsampling=2",
    "model.quantizers=[{type: ema, codebook_size: 8}, {type: fsq, levels: [3, 3, 3, 3]}]",
    "model.quantizers.0.codebook_size=6",
]


@dataclass(frozen=True)
class TwoLevels:
    run: Path
    tokens: Path
    prior: Path


@pytest.fixture(scope="module")
def two(made: Made, tmp_path_factory: pytest.TempPathFactory) -> TwoLevels:
    home = tmp_path_factory.mktemp("levels")
    found = TwoLevels(home / "run", home / "tokens", home / "prior")
    for words in (
        ["train", "photos-64", f"data.path={made.images}", *LEVELS, "-o", found.run],
        ["encode", found.run, made.images, found.tokens],
        ["train-prior", found.tokens, *TINY_PRIOR, "-t", found.run, "-o", found.prior],
    ):
        assert guarded(run, [str(word) for word in words]) == 0
    return found


def test_the_run_has_the_quantizers_that_the_words_asked_for(two: TwoLevels):
    config = load_config(two.run / "config.yaml").model
    assert config.level_quantizers == (EMAConfig(codebook_size=6), FSQConfig(levels=(3,) * 4))
    model = VQVAE.from_pretrained(two.run)
    assert model.config == config
    assert [quantizer.codebook_sizes for quantizer in model.quantizers] == [(6,), (81,)]


def test_tokens_of_two_levels_are_the_models_own_and_decode(
    cli: Cli, two: TwoLevels, tmp_path: Path
):
    tokens = TokenSet.open(two.tokens)
    assert [spec.grid for spec in tokens.specs] == [(2, 2), (4, 4)]
    assert tokens.tokenizer == VQVAE.from_pretrained(two.run).fingerprint()
    assert cli("decode", two.run, two.tokens, tmp_path / "restored").code == 0
    assert len(list((tmp_path / "restored").rglob("*.png"))) == 20


def test_inspecting_tells_of_both_levels(cli: Cli, made: Made, two: TwoLevels):
    found = json.loads(cli("inspect", two.run, made.images, "--json").out)
    names = [book["name"] for book in found["codebooks"]]
    assert names == ["quantizer_0", "quantizer_1"]
    assert [book["num_vectors"] for book in found["codebooks"]] == [20 * 4, 20 * 16]
    assert len(found["levels"]) == 2
    lines = cli("inspect", two.run, made.images).out.splitlines()
    for number, level in enumerate(found["levels"], start=1):
        start = f"level {number} of 2: with its codes of another image the error "
        (line,) = [line for line in lines if line.startswith(start)]
        assert (
            f"by {abs(level['mse_rise']):.1%}, an image costs {level['bits_per_dim_rise']:+.4f}"
            in line
        )


def test_evaluating_tells_of_both_levels(cli: Cli, two: TwoLevels):
    result = cli("evaluate", two.run)
    assert result.code == 0
    metrics = json.loads((two.run / "metrics.json").read_text())
    assert [level["grid"] for level in metrics["levels"]] == [[2, 2], [4, 4]]
    for number, level in enumerate(metrics["levels"], start=1):
        (line,) = [
            line
            for line in result.out.splitlines()
            if line.startswith(f"  error, level {number} of another image")
        ]
        assert line.endswith(f"{level['exchanged']['mse_rise']:+.1%}")
        assert f"  entries used, level {number} " in result.out
    assert "<h2>Levels</h2>" in (two.run / "report.html").read_text()
    assert (two.run / "pictures" / "levels.png").is_file()


def test_a_prior_of_both_levels_is_evaluated_and_drawn_from(
    cli: Cli, two: TwoLevels, tmp_path: Path
):
    assert cli("evaluate", two.prior).code == 0
    assert cli("sample", two.prior, "-n", 3, "-o", tmp_path / "new").code == 0
    assert len(list((tmp_path / "new").glob("0*.png"))) == 3


def test_the_same_command_again_goes_on(cli: Cli, made: Made, two: TwoLevels):
    words = ["train", "photos-64", f"data.path={made.images}", *LEVELS, "-o", two.run]
    before = VQVAE.from_pretrained(two.run).fingerprint()
    assert cli(*words).code == 0
    assert VQVAE.from_pretrained(two.run).fingerprint() == before
    other = cli(*words, "model.quantizers.0.codebook_size=7")
    assert "model.quantizers.0.codebook_size is 6, you asked for 7; set it" in other.failure


def test_images_that_do_not_fit_the_coarsest_level_are_refused_in_a_line(
    cli: Cli, made: Made, tmp_path: Path
):
    words = ["train", "photos-64", f"data.path={made.images}", *LEVELS, "-o", tmp_path / "run"]
    found = cli(*words, "data.size=null")
    assert "coarsest level stands for 4 x 4; resize or pad them to multiples of 4" in found.failure
    assert "make it multiples of 4" in cli(*words, "data.size=10").failure
