"""The whole path by commands, from a file of sentences to new sentences."""

import json
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

pytestmark = pytest.mark.slow
NAMES, DEEDS = ("Ann", "Bob", "Cleo", "Dan"), ("runs", "sings a song", "is läte", "waits")
LINES = "".join(f"{a} {b}, {c}.\n" for a in NAMES for b in DEEDS for c in ("now", "as ever", "too"))
TINY = [
    "model.network.symbol_width=8",
    "model.network.width=16",
    "model.network.heads=2",
    "model.network.dim=8",
    "model.quantizer.codebook_size=32",
    "train.batch_size=8",
    "train.steps=4",
    "train.device=cpu",
]
PRIOR = ["prior.layers=1", "prior.width=16", "prior.heads=2", "train.steps=3", "train.batch_size=8"]


@pytest.mark.parametrize("decoder", ["parallel", "autoregressive"])
def test_from_sentences_to_new_sentences(cli: Cli, tmp_path: Path, decoder: str):
    data, run, tokens, prior = (tmp_path / name for name in ("a.txt", "run", "tokens", "prior"))
    data.write_bytes(LINES.encode() + b"\xff\n")
    words = [f"model.decoder.type={decoder}"]
    words += [] if decoder == "parallel" else ["model.decoder.width=16", "model.decoder.heads=2"]
    result = cli("train", "text", f"data.path={data}", *words, *TINY, "-o", run)
    assert result.code == 0, result.err
    assert "1 text cannot be read and is left out" in result.err
    assert f"{data} line 49 is no UTF-8" in result.err

    result = cli("evaluate", run)
    assert result.code == 0, result.err
    for words in ("over 5 texts, held-out:", "bytes right", "texts right", "codes per byte"):
        assert words in result.out
    figures = json.loads((run / "metrics.json").read_text())
    assert figures["modality"] == "text"
    assert 0 <= figures["byte_accuracy"] <= 1
    assert "mse" not in figures
    total = figures["decoder_bits_per_dim"] + figures["code_bits_per_dim_uniform"]
    assert figures["bits_per_dim_uniform"] == pytest.approx(total)
    page = (run / "report.html").read_text()
    assert "Texts and their codes" in page
    assert "<mark>" in page
    assert "one byte" in page

    assert cli("inspect", run).code == 0
    assert cli("encode", run, data, tokens).code == 0
    assert cli("decode", run, tokens, tmp_path / "restored").code == 0
    restored = (tmp_path / "restored" / "text.txt").read_bytes()
    assert 0 < len(restored) <= len(LINES.encode()) + 48

    result = cli("train-prior", tokens, *PRIOR, "train.device=cpu", "-t", run, "-o", prior)
    assert result.code == 0, result.err
    assert cli("sample", prior, "-n", 3, "-o", tmp_path / "samples").code == 0
    written = sorted(path.name for path in (tmp_path / "samples").glob("*.txt"))
    assert written == ["0000.txt", "0001.txt", "0002.txt"]
    assert cli("sample", prior, "-n", 2, "-o", tmp_path / "samples", "--force").code == 0
    result = cli("evaluate", prior)
    assert result.code == 0, result.err
    assert "bits/byte, this prior" in result.out
    page = (prior / "report.html").read_text()
    assert "Samples" in page
    assert page.count('<pre class="text"') > 32
    failure = cli("evaluate", prior, "--samples", 10).failure
    assert "new texts are shown, not judged; leave it out" in failure
    failure = cli("complete", prior, data, "-o", tmp_path / "completed").failure
    assert "is for images alone" in failure


def test_the_files_of_a_folder_come_back_as_files(cli: Cli, tmp_path: Path):
    folder = tmp_path / "data"
    for name in NAMES:
        (folder / name[0]).mkdir(parents=True, exist_ok=True)
        (folder / name[0] / f"{name}.txt").write_text(f"{name}\n" * 3)
    run, tokens = tmp_path / "run", tmp_path / "tokens"
    words = [*TINY, "model.quantizer.codebook_size=4", "data.eval_fraction=0.3"]
    result = cli("train", "text", f"data.path={folder}", *words, "-o", run)
    assert result.code == 0, result.err
    assert cli("encode", run, folder, tokens).code == 0
    assert cli("decode", run, tokens, tmp_path / "restored").code == 0
    names = sorted(
        p.relative_to(tmp_path / "restored").as_posix()
        for p in (tmp_path / "restored").rglob("*.txt")
    )
    assert names == [f"{name[0]}/{name}.txt" for name in sorted(NAMES)]


def test_a_patch_that_data_and_model_do_not_share_is_refused(cli: Cli, tmp_path: Path):
    (tmp_path / "a.txt").write_text(LINES)
    words = [f"data.path={tmp_path / 'a.txt'}", "data.patch=4", "-o", tmp_path / "run"]
    failure = cli("train", "text", *words).failure
    assert "data.patch is 4, model.network.patch 2; make them equal" in failure
