"""``vqkit encode --faiss``: an index of vectors, or one line before anything is encoded."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Cli
from tests.cli.conftest import Made as Images

from vqkit.cli import run
from vqkit.cli.failures import guarded

QUIET = ["train.progress=none", "train.device=cpu", "train.num_workers=0"]
STAGES = ["model.quantizer.stages=2", "model.quantizer.quantizer.codebook_size=8"]
KINDS = {
    "vectors": ["train.steps=3", "train.warmup_steps=1", "model.network.hidden=[8]", *STAGES],
    "vectors-additive": ["train.steps=5", "model.quantizer.rounds=3", *STAGES],
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows of numbers and a run of each kind, with and without a network."""
    home = tmp_path_factory.mktemp("faiss")
    np.save(home / "rows.npy", np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32))
    for kind, words in KINDS.items():
        about = [f"data.path={home / 'rows.npy'}", *QUIET, *words]
        assert guarded(run, ["train", kind, *about, "-o", str(home / kind)]) == 0
    return home


def test_an_index_is_written_beside_the_tokens(cli: Cli, home: Path, tmp_path: Path):
    from vqkit.interop.faiss_index import library

    words = ["encode", home / "vectors-additive", home / "rows.npy", tmp_path / "tokens"]
    result = cli(*words, "--faiss", tmp_path / "x.faiss")
    assert result.code == 0, result.err
    assert "index of Faiss, 60 vectors" in result.out
    assert library().read_index(str(tmp_path / "x.faiss")).ntotal == 60


def test_a_file_that_is_there_stays_and_nothing_is_encoded(cli: Cli, home: Path, tmp_path: Path):
    file, out = tmp_path / "mine", tmp_path / "tokens"
    file.write_text("kept")
    words = ["encode", home / "vectors-additive", home / "rows.npy", out, "--faiss", file]
    failure = cli(*words).failure
    assert failure == f"--faiss {file} exists already; remove it or choose another name"
    assert file.read_text() == "kept"
    assert not out.exists()


def test_a_folder_that_is_missing_is_named_before_anything_is_encoded(
    cli: Cli, home: Path, tmp_path: Path
):
    file, out = tmp_path / "none" / "x", tmp_path / "tokens"
    words = ["encode", home / "vectors-additive", home / "rows.npy", out, "--faiss", file]
    assert cli(*words).failure == f"--faiss {file}: there is no folder {file.parent}; make it first"
    assert not out.exists()


def test_an_index_and_vectors_exclude_each_other(cli: Cli, home: Path, tmp_path: Path):
    words = ["encode", home / "vectors-additive", home / "rows.npy", tmp_path / "tokens"]
    failure = cli(*words, "--faiss", tmp_path / "x", "--features", "z_q").failure
    assert "--features z_q writes none; leave one of them out" in failure
    assert not (tmp_path / "tokens").exists()


def test_a_network_is_refused_before_anything_is_encoded(cli: Cli, home: Path, tmp_path: Path):
    words = ["encode", home / "vectors", home / "rows.npy", tmp_path / "tokens"]
    failure = cli(*words, "--faiss", tmp_path / "x").failure
    assert "come out of a network" in failure
    assert "model.network.type=none" in failure
    assert not (tmp_path / "tokens").exists()


def test_a_run_of_no_vectors_is_refused_before_anything_is_encoded(
    cli: Cli, made: Images, tmp_path: Path
):
    words = ["encode", made.run, made.images, tmp_path / "tokens", "--faiss", tmp_path / "x"]
    assert cli(*words).failure == (
        f"--faiss makes an index of vectors, and {made.run} is of images; leave it out"
    )
    assert not (tmp_path / "tokens").exists()


def test_without_faiss_the_extra_is_named_before_anything_is_encoded(
    cli: Cli, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "faiss", None)
    words = ["encode", home / "vectors-additive", home / "rows.npy", tmp_path / "tokens"]
    assert 'pip install "vqkit[faiss]"' in cli(*words, "--faiss", tmp_path / "x").failure
    assert not (tmp_path / "tokens").exists()
