"""Every prior by commands: trained, gone on with, evaluated, drawn from."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY_PRIOR
from tests.cli.test_path import pictures

from vqkit.priors import Prior

TRAINING = [word for word in TINY_PRIOR if word.startswith("train.")]
SIZES = ["prior.width=16", "prior.heads=2"]
PRIORS = {
    "uniform": [],
    "histogram": [],
    "transformer": ["prior.layers=1", *SIZES, "prior.drop_conditioning=0.2"],
    "depth_transformer": ["prior.layers=1", *SIZES],
    "delay_transformer": ["prior.layers=1", *SIZES],
    "pixelcnn": ["prior.layers=2", "prior.width=12", "prior.drop_conditioning=0.2"],
    "ngram": [],
    "mixture": ["prior.components=2", "prior.draws=20"],
    "absorbing_diffusion": ["prior.layers=1", *SIZES],
    "uniform_diffusion": ["prior.layers=1", *SIZES],
}
UNTOLD = ("uniform", "histogram", "mixture")


ALWAYS = ("transformer", "pixelcnn", "ngram", "absorbing_diffusion")
"""Kinds whose whole path is gone with each change; that of the others among the slow tests."""


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        pytest.param(*each, id=each[0], marks=() if each[0] in ALWAYS else pytest.mark.slow)
        for each in PRIORS.items()
    ],
)
def test_it_trains_goes_on_draws_and_is_evaluated(
    cli: Cli, made: Made, tmp_path: Path, kind: str, words: list[str]
):
    run = tmp_path / "prior"
    train = ["train-prior", made.tokens, f"prior.type={kind}", *words, *TRAINING, "-t", made.run]
    result = cli(*train, "-o", run)
    assert result.code == 0, result.err
    assert f"  {kind}" in result.out
    before = Prior.from_pretrained(run).state_dict()
    assert cli(*train, "-o", run).code == 0
    after = Prior.from_pretrained(run).state_dict()
    assert all((before[name] == after[name]).all() for name in before)

    result = cli("sample", run, "-n", 3, "-o", tmp_path / "samples")
    assert result.code == 0, result.err
    assert len(pictures(tmp_path / "samples")) == 3

    knows_classes = Prior.from_pretrained(run).num_classes is not None
    assert knows_classes == (kind not in UNTOLD)
    result = cli("sample", run, "-n", 2, "-o", tmp_path / "one", "--class", "0")
    assert (result.code == 0) == knows_classes
    result = cli("evaluate", run)
    assert result.code == 0, result.err
    metrics = json.loads((run / "metrics.json").read_text())
    assert metrics["nats_per_token_prior"] > 0


@pytest.mark.parametrize("kind", ["transformer", "pixelcnn"])
def test_guidance_draws_others_where_it_was_learned(
    cli: Cli, made: Made, tmp_path: Path, kind: str
):
    run = tmp_path / "prior"
    words = [f"prior.type={kind}", *PRIORS[kind], *TRAINING, "-t", made.run]
    assert cli("train-prior", made.tokens, *words, "-o", run).code == 0
    drawn = {}
    for guidance in ("1", "8"):
        out = tmp_path / guidance
        result = cli("sample", run, "-n", 12, "-o", out, "--guidance", guidance)
        assert result.code == 0, result.err
        drawn[guidance] = [path.read_bytes() for path in sorted(out.glob("0*.png"))]
    assert len(drawn["1"]) == 12
    assert drawn["1"] != drawn["8"]


def test_guidance_and_steps_that_a_prior_does_not_have_are_refused_in_one_line(
    cli: Cli, made: Made, tmp_path: Path
):
    out = tmp_path / "out"
    refused = cli("sample", made.prior, "-o", out, "--guidance", "3").failure
    assert refused.startswith("guidance is 3.0, but the prior never learned the codes without")
    refused = cli("sample", made.prior, "-o", out, "--steps", "4").failure
    assert refused.startswith("steps is 4, but this prior draws one integer after another")
    assert not out.exists()
