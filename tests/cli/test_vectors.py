"""Vectors by commands: from a file of rows to codes, IDs, search and back."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tests.cli.conftest import Cli
from tests.cli.folders import TINY_PRIOR

from vqkit.autoencoder import VQVAE
from vqkit.cli import run
from vqkit.cli.failures import guarded
from vqkit.tokens import SemanticIDs, TokenSet

QUIET = ["train.progress=none", "train.device=cpu", "train.num_workers=0"]
STEPS = ["train.steps=20", "train.batch_size=32", "train.warmup_steps=2", *QUIET]
NETWORK = ["model.network.hidden=[8]", "model.network.dim=4"]
STAGES = ["model.quantizer.stages=2", "model.quantizer.quantizer.codebook_size=8"]
KINDS = {
    "vectors": [*STEPS, *NETWORK, *STAGES],
    "vectors-product": [
        *QUIET,
        "train.steps=5",
        "model.quantizer.iterations=3",
        "model.quantizer.quantizer.parts=2",
        "model.quantizer.quantizer.quantizer.codebook_size=8",
    ],
    "vectors-additive": [*QUIET, "train.steps=5", "model.quantizer.rounds=3", *STAGES],
    "semantic-ids": [*STEPS, *NETWORK, *STAGES],
    "fashion-mnist-mlp": [*STEPS, *NETWORK, "model.quantizer.codebook_size=8"],
}
CLASSES = ("u", "v")


def rows(num: int = 120, seed: int = 0) -> np.ndarray:
    made = np.random.default_rng(seed)
    return (made.normal(size=(num, 2)) @ made.normal(size=(2, 6)) + 5).astype(np.float32)


@dataclass(frozen=True)
class Made:
    data: Path
    run: Path
    tokens: Path


@pytest.fixture(scope="module", params=KINDS)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Rows with two classes, a tokenizer of them, and their tokens, made by the commands."""
    home = tmp_path_factory.mktemp("vectors")
    found = Made(home / "rows.npz", home / "run", home / "tokens")
    np.savez(found.data, x=rows(), y=np.array(CLASSES * 60))
    words = ["train", request.param, f"data.path={found.data}", *KINDS[request.param]]
    assert guarded(run, [*words, "-o", str(found.run)]) == 0
    assert guarded(run, ["encode", str(found.run), str(found.data), str(found.tokens)]) == 0
    return found


def test_evaluating_tells_errors_recall_collisions_and_purity(cli: Cli, made: Made):
    result = cli("evaluate", made.run)
    assert result.code == 0, result.err
    for name in ("MSE", "explained variance", "recall@1", "recall@100", "collisions"):
        assert name in result.out
    metrics = json.loads((made.run / "metrics.json").read_text())
    assert (metrics["num_items"], metrics["num_searched"], metrics["num_queries"]) == (12, 108, 12)
    assert metrics["recall_at_100"] > 0.5
    assert len(metrics["prefix_purity"]) == len(metrics["prefix_groups"])
    page = (made.run / "report.html").read_text()
    assert "recall@10" in page
    assert "vectors and their codes" in page.lower()


def test_other_vectors_are_looked_for_among_those_of_the_training(
    cli: Cli, made: Made, tmp_path: Path
):
    np.save(tmp_path / "other.npy", rows(7, seed=1))
    result = cli("evaluate", made.run, tmp_path / "other.npy")
    assert "over 7 vectors" in result.out
    metrics = json.loads((made.run / "metrics.json").read_text())
    assert (metrics["num_searched"], metrics["num_queries"]) == (108, 7)


def test_inspecting_tells_the_use_of_every_codebook(cli: Cli, made: Made):
    result = cli("inspect", made.run, made.data)
    assert result.code == 0, result.err
    assert "over 120 vectors" in result.out
    assert "of 8 entries" in result.out


def test_tokens_come_back_as_the_models_own_vectors(cli: Cli, made: Made, tmp_path: Path):
    tokens, model = TokenSet.open(made.tokens), VQVAE.from_pretrained(made.run)
    assert tokens.labels == CLASSES
    assert [tokens.id(number) for number in (0, 119)] == ["0", "119"]
    assert cli("decode", made.run, made.tokens, tmp_path / "out").code == 0
    found = np.load(tmp_path / "out" / "vectors.npy")
    expected = model.decode(model.encode(torch.from_numpy(rows())))
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-5, atol=1e-5)


def test_a_prior_of_the_codes_draws_new_vectors(cli: Cli, made: Made, tmp_path: Path):
    words = ["train-prior", made.tokens, *TINY_PRIOR, "-t", made.run, "-o", tmp_path / "prior"]
    assert cli(*words).code == 0
    result = cli("sample", tmp_path / "prior", "-n", 5, "-o", tmp_path / "samples")
    assert result.code == 0, result.err
    assert "5 vectors" in result.out
    (file,) = (tmp_path / "samples").rglob("*.npy")
    assert np.load(file).shape == (5, 6)
    assert cli("evaluate", tmp_path / "prior").code == 0


def test_ids_are_unique_and_stay_when_vectors_are_added(cli: Cli, made: Made, tmp_path: Path):
    out = tmp_path / "ids.parquet"
    result = cli("ids", made.run, made.data, out)
    assert result.code == 0, result.err
    assert f"120 IDs: {out}" in result.out
    assert "of one class" in result.out
    first = SemanticIDs.open(out)
    assert len(set(map(tuple, first.ids.tolist()))) == 120
    assert torch.equal(first.codes, TokenSetCodes(made.tokens))
    more = np.concatenate([rows(), rows(30, seed=2)])
    np.savez(tmp_path / "more.npz", x=more, y=np.array([*CLASSES * 60, *["w"] * 30]))
    result = cli("ids", made.run, tmp_path / "more.npz", out)
    assert "150 IDs, 30 of them new" in result.out
    second = SemanticIDs.open(out)
    assert torch.equal(second.ids[:120], first.ids)
    assert len(set(map(tuple, second.ids.tolist()))) == 150
    assert pq.read_table(out)["label"].to_pylist()[-1] == "w"


def TokenSetCodes(folder: Path) -> torch.Tensor:
    tokens = TokenSet.open(folder)
    return torch.cat([tokens.codes(number).flat() for number in range(len(tokens))])


def test_ids_are_written_as_csv_too_but_not_over_another(cli: Cli, made: Made, tmp_path: Path):
    assert cli("ids", made.run, made.data, tmp_path / "ids.csv").code == 0
    with (tmp_path / "ids.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 120
    assert "write a .parquet" in cli("ids", made.run, made.data, tmp_path / "ids.csv").failure
    assert "ends in no .parquet" in cli("ids", made.run, made.data, tmp_path / "ids.txt").failure


def test_ids_of_another_run_are_not_added_to(
    cli: Cli, made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    out = tmp_path / "ids.parquet"
    assert cli("ids", made.run, made.data, out).code == 0
    monkeypatch.setattr(VQVAE, "fingerprint", lambda self: "other")
    assert "use the model that made the first" in cli("ids", made.run, made.data, out).failure


def test_rows_that_are_no_numbers_are_said_and_left_out(cli: Cli, tmp_path: Path):
    x = rows()
    x[3, 1] = np.nan
    np.save(tmp_path / "x.npy", x)
    words = ["train", "vectors-additive", f"data.path={tmp_path / 'x.npy'}"]
    result = cli(*words, *KINDS["vectors-additive"], "-o", tmp_path / "run")
    assert result.code == 0, result.err
    assert "1 vector cannot be read and is left out:" in result.err
    assert "row 3 has nan in column 1, which is no number" in result.err
    result = cli("encode", tmp_path / "run", tmp_path / "x.npy", tmp_path / "tokens")
    assert "119 items of 2 tokens each" in result.out


Bad = Callable[[Path], object]


@pytest.mark.parametrize(
    ("name", "write", "match"),
    [
        ("x.npy", lambda path: np.save(path, np.ones((30, 4))), "the vectors do not vary"),
        ("x.npy", lambda path: np.save(path, rows(5)), "vectors to start from"),
        ("x.npy", lambda path: np.save(path, np.array([[None]])), "holds Python objects"),
        ("x.csv", lambda path: path.write_text("1,2\n3\n"), "is no table of numbers"),
        ("x.csv", lambda path: path.write_text("p,q\n3,4\n5,six\n7,8\n"), "among its numbers"),
        ("x.parquet", lambda path: path.write_bytes(b"no"), "is cut or no Parquet file"),
    ],
)
def test_bad_vectors_are_one_clear_line(
    cli: Cli, tmp_path: Path, name: str, write: Bad, match: str
):
    write(tmp_path / name)
    words = ["train", "vectors-product", f"data.path={tmp_path / name}"]
    result = cli(*words, *KINDS["vectors-product"], "-o", tmp_path / "run")
    assert match in result.failure
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_vectors_of_another_length_are_refused(cli: Cli, made: Made, tmp_path: Path):
    np.save(tmp_path / "x.npy", rows()[:, :5])
    failure = cli("encode", made.run, tmp_path / "x.npy", tmp_path / "out").failure
    assert "the vectors have 5 numbers, the model 6" in failure


def test_parts_that_do_not_divide_the_vectors_are_refused(cli: Cli, tmp_path: Path):
    np.save(tmp_path / "x.npy", rows())
    words = ["train", "vectors-product", f"data.path={tmp_path / 'x.npy'}", *QUIET]
    assert "8 parts do not divide" in cli(*words, "-o", tmp_path / "run").failure
