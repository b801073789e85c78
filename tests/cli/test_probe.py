"""What ``vqkit probe`` prints, keeps and refuses."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import Cli, Made
from tests.cli.folders import make_images
from tests.data.files import write_parquet


def test_a_probe_prints_a_table_and_keeps_its_figures_for_the_report(
    cli: Cli, made: Made, tmp_path: Path
):
    run = shutil.copytree(made.run, tmp_path / "run")
    result = cli("probe", run)
    assert result.code == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "over 2 images, held-out; learned from 18, 2 classes:"
    assert lines[1].split() == ["features", "accuracy", "95", "%", "interval", "penalty"]
    assert [line.split("  ")[1] for line in lines[2:10]] == [
        "histogram of codes",
        "histogram of each part",
        "mean z_q",
        "mean z_q of each part",
        "mean z_e, unquantized",
        "mean z_e of each part",
        "raw input",
        "most frequent class",
    ]
    assert lines[10] == "codes and classes, over 80 codes:"
    assert lines[-1] == f"figures: {run / 'probe.json'}"
    kept = json.loads((run / "probe.json").read_text())
    assert kept["features"]["input"]["num_features"] == 8 * 8 * 3
    again = json.loads(cli("probe", run, "--json").out)
    assert again == {"run": str(run), **kept}
    assert cli("evaluate", run).code == 0
    assert "Codes as features" in (run / "report.html").read_text()


def test_other_data_are_split_as_those_of_the_run(cli: Cli, made: Made, tmp_path: Path):
    run = shutil.copytree(made.run, tmp_path / "run")
    make_images(tmp_path / "others", 30)
    result = cli("probe", run, tmp_path / "others", "data.eval_fraction=0.5", "--most", 10)
    assert result.code == 0, result.err
    assert result.out.startswith(f"over 15 images, {tmp_path / 'others'}; learned from 10, 2")


@pytest.mark.parametrize("classes", [(), ("cat",)])
def test_data_without_classes_to_tell_apart_are_refused(
    cli: Cli, made: Made, tmp_path: Path, classes: tuple[str, ...]
):
    make_images(tmp_path / "others", 6, classes=classes)
    failure = cli("probe", made.run, tmp_path / "others").failure
    words = "all items are of the class cat" if classes else "the images have no classes: put them"
    assert failure.startswith(words)
    assert not (made.run / "probe.json").exists()


def test_classes_that_are_missing_in_some_rows_are_counted(cli: Cli, made: Made, tmp_path: Path):
    path = write_parquet(tmp_path / "a.parquet", 6, labels=["a", None, "b", "a", None, "b"])
    failure = cli("probe", made.run, path).failure
    assert failure == (
        f"the images have no classes: column 'label' of {path} has None in row 1; give integers or "
        "text in every row (2 of 6 have none)"
    )


def test_vectors_without_classes_are_told_of_the_column(cli: Cli, tmp_path: Path):
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(60, 4)))
    words = ["train", "vectors-additive", f"data.path={tmp_path / 'x.npy'}", "train.steps=2"]
    words += ["model.quantizer.stages=2", "model.quantizer.quantizer.codebook_size=8"]
    words += ["train.progress=none", "train.device=cpu", "train.num_workers=0"]
    assert cli(*words, "-o", tmp_path / "run").code == 0
    failure = cli("probe", tmp_path / "run").failure
    assert failure == "the vectors have no classes: name a column with data.label_column"


def test_too_few_items_to_learn_from_are_put_down_to_most(cli: Cli, made: Made, tmp_path: Path):
    make_images(tmp_path / "others", 30, classes=("a", "b", "c"))
    failure = cli("probe", made.run, tmp_path / "others", "--most", 4).failure
    assert "among the 4 of 27 that --most lets learn from; raise it" in failure


def test_without_scikit_learn_the_extra_is_named(
    cli: Cli, made: Made, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    failure = cli("probe", made.run).failure
    assert failure == 'the probe needs scikit-learn; pip install "vqkit[probe]"'


def test_data_that_are_named_twice_are_refused(cli: Cli, made: Made):
    failure = cli("probe", made.run, made.images, "data.path=elsewhere").failure
    assert failure == f"data.path=elsewhere: DATA is {made.images} already; leave one of them out"
