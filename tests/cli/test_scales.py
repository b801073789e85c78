"""The whole path by commands with codes of several scales, from a folder of images to new ones."""

import json
from pathlib import Path

from tests.cli.conftest import Cli, Made
from tests.cli.folders import TINY, TINY_PRIOR

from vqkit.autoencoder import VQVAE
from vqkit.tokens import TokenSet

KIND = [
    *TINY[:5],
    *TINY[6:],
    "model.quantizer.type=multiscale",
    "model.quantizer.quantizer.codebook_size=8",
]


def test_the_whole_path_works_where_the_codes_have_another_grid(
    cli: Cli, made: Made, tmp_path: Path
):
    run, tokens, prior = (tmp_path / name for name in ("run", "tokens", "prior"))
    words = ["train", "photos-64", f"data.path={made.images}", "train.num_workers=0", *KIND]
    assert cli(*words, "model.quantizer.scales=[1,2]", "-o", run).code == 0
    assert VQVAE.from_pretrained(run).quantizers[0].reads_grid
    assert cli("evaluate", run).code == 0
    found = json.loads(cli("inspect", run, made.images, "--json").out)
    assert found["codebooks"][0]["num_vectors"] == 20 * (1 + 4)
    assert "entry_norms" in found["codebooks"][0]
    assert cli("encode", run, made.images, tokens).code == 0
    assert [spec.grid for spec in TokenSet.open(tokens).specs] == [(5,)]
    assert cli("decode", run, tokens, tmp_path / "restored").code == 0
    assert cli("train-prior", tokens, *TINY_PRIOR, "-t", run, "-o", prior).code == 0
    assert cli("evaluate", prior).code == 0
    assert cli("sample", prior, "-n", 3, "-o", tmp_path / "new").code == 0
    assert len(list((tmp_path / "new").glob("0*.png"))) == 3


def test_scales_that_do_not_end_at_the_networks_grid_are_refused_in_a_line(
    cli: Cli, made: Made, tmp_path: Path
):
    words = ["train", "photos-64", f"data.path={made.images}", "train.num_workers=0", *KIND]
    found = cli(*words, "model.quantizer.scales=[1,4]", "-o", tmp_path / "run")
    assert "z_e has shape (1, 2, 2, 4), the last of scales is (4, 4); end the" in found.failure
    found = cli(*words, "model.quantizer.scales=[2,1]", "-o", tmp_path / "run")
    assert "make each finer than the one before" in found.failure
