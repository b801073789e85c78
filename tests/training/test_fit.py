"""A run from outside: what is asked for, refused, found again and left behind."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.training import tiny
from torch import nn

from vqkit.autoencoder import VQVAE
from vqkit.data import TensorExamples
from vqkit.quantizers import Codebook
from vqkit.storage import fingerprint, write_tensors
from vqkit.training import checkpoint, fit
from vqkit.training.loop import Trainer
from vqkit.training.runtime import on_main

KEYS = {"steps": 6, "checkpoint_every": 3, "log_every": 3}


def run(folder: Path | None, *, examples: Any = None, **keys: Any) -> VQVAE:
    return fit(tiny.model(), examples or tiny.series(), tiny.config(**KEYS | keys), folder=folder)


def test_the_folder_of_a_run_holds_the_model_its_checkpoints_and_its_metrics(tmp_path: Path):
    model = run(tmp_path / "new" / "run")
    names = {path.name for path in (tmp_path / "new" / "run").iterdir()}
    assert names - {".lock"} == {
        "checkpoints",
        "config.json",
        "finished.json",
        "metrics.jsonl",
        "model.safetensors",
    }
    opened = VQVAE.from_pretrained(tmp_path / "new" / "run", tiny.model())
    assert fingerprint(opened) == fingerprint(model)
    assert not model.training


def test_a_model_that_was_trained_gives_the_codes_of_the_one_that_was_saved(tmp_path: Path):
    torch.manual_seed(0)
    images = torch.randint(256, (32, 1, 8, 8), dtype=torch.uint8)
    model = tiny.images_model()
    before = [p.stride() for p in model.parameters()]
    fit(model, TensorExamples(images), tiny.config(**KEYS), folder=tmp_path)
    assert [p.stride() for p in model.parameters()] == before
    opened = VQVAE.from_pretrained(tmp_path)
    assert torch.equal(opened.encode(images).flat(), model.encode(images).flat())
    assert torch.equal(opened(images).reconstruction, model(images).reconstruction)


def test_a_run_without_a_folder_keeps_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run(None)
    assert not list(tmp_path.iterdir())


def test_the_same_call_gives_the_same_weights():
    assert fingerprint(run(None)) == fingerprint(run(None))
    assert fingerprint(run(None, seed=1)) != fingerprint(run(None))


def test_the_start_from_data_is_calibrated_and_initialised(tmp_path: Path):
    model = run(tmp_path)
    assert model.quantizers[0].codebook.is_initialized
    assert model.objective.claims_likelihood


def test_a_trained_model_is_trained_further_from_where_it_is():
    model = run(None)
    entries = model.quantizers[0].codebook.entries.clone()
    fit(model, tiny.series(), tiny.config(steps=1, learning_rate=1e-12))
    moved = (model.quantizers[0].codebook.entries - entries).norm(dim=1)
    assert moved.mean() < 0.3 * entries.norm(dim=1).mean()


@pytest.mark.parametrize("how", ["given", "checked"])
def test_a_codebook_that_was_started_keeps_the_objective_from_nothing(how: str):
    """Entries that are given, or a look at the shapes in training mode."""
    book = Codebook.from_entries(torch.randn(16, 4)) if how == "given" else None
    model = tiny.model(codebook=book)
    if how == "checked":
        model(torch.rand(8, 2, 5))
    entries = model.quantizers[0].codebook.entries.clone()
    fit(model, tiny.series(), tiny.config(steps=1, learning_rate=1e-12))
    assert 0.2 < model.objective.variance < 0.5
    assert (model.quantizers[0].codebook.entries == entries).any()


def test_a_finished_run_says_so_and_does_nothing(tmp_path: Path, capsys: pytest.CaptureFixture):
    first = run(tmp_path)
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    capsys.readouterr()
    second = run(tmp_path, progress="lines")
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is finished at step 6; raise train.steps to train on" in said
    assert fingerprint(first) == fingerprint(second)
    stamps.pop(tmp_path / ".lock", None)
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())


def test_more_steps_go_on_and_the_new_schedule_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    run(tmp_path)
    model = run(tmp_path, steps=9, progress="lines")
    said = capsys.readouterr().err
    assert "going on from step 6" in said
    assert "steps was 6 and is 9: the learning rate follows the new schedule" in said
    assert int(model.quantizers[0].codebook.step) == 9
    assert tiny.lines(tmp_path)[-1]["step"] == 9


def test_raised_steps_of_a_run_whose_checkpoints_are_gone_are_refused(tmp_path: Path):
    run(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    run(tmp_path)  # finished is finished
    with pytest.raises(ValueError, match="a model of 6 steps and no checkpoint to go on from"):
        run(tmp_path, steps=9)


def test_a_run_cut_off_before_its_model_was_saved_saves_it(tmp_path: Path):
    first = run(tmp_path)
    (tmp_path / "finished.json").unlink()
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    assert fingerprint(run(tmp_path)) == fingerprint(first)
    assert VQVAE.from_pretrained(tmp_path, tiny.model())


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"batch_size": 16}, "train.batch_size was 8 .* and is 16 now"),
        ({"seed": 5}, "train.seed was 0 .* and is 5 now"),
        ({"learning_rate": 0.5}, "train.learning_rate was 0.01 .* and is 0.5 now"),
    ],
    ids=str,
)
def test_a_key_that_changes_what_is_computed_is_named(tmp_path: Path, keys: dict, words: str):
    run(tmp_path)
    with pytest.raises(ValueError, match=words) as error:
        run(tmp_path, **{"steps": 9} | keys)
    assert "\n" not in str(error.value)


def test_keys_that_change_nothing_may_change(tmp_path: Path):
    run(tmp_path)
    keys = {"log_every": 1, "checkpoint_every": 2, "keep_checkpoints": 1, "num_workers": 1}
    run(tmp_path, steps=9, **keys)
    assert len(list((tmp_path / "checkpoints").iterdir())) == 1


def test_other_data_are_named(tmp_path: Path):
    run(tmp_path)
    with pytest.raises(ValueError, match=r"training data changed .*\(num_examples was 96, is 95"):
        run(tmp_path, examples=tiny.series(95))
    with pytest.raises(ValueError, match=r"training data changed .*\(fingerprint was"):
        run(tmp_path, examples=tiny.series(seed=9))


def test_another_model_is_named(tmp_path: Path):
    run(tmp_path)
    for steps in (6, 9):
        config = tiny.config(**KEYS | {"steps": steps})
        with pytest.raises(ValueError, match=r"was Codebook\(16, 4.* is Codebook\(17") as error:
            fit(tiny.model(size=17), tiny.series(), config, folder=tmp_path)
        assert "\n" not in str(error.value)


def test_another_config_of_the_model_is_named_by_its_key(tmp_path: Path):
    images = TensorExamples(torch.randint(256, (32, 1, 8, 8), dtype=torch.uint8))
    fit(tiny.images_model(), images, tiny.config(**KEYS), folder=tmp_path)
    other = tiny.images_model(codebook_size=32)
    with pytest.raises(ValueError, match=r"model.quantizer.codebook_size was 16 .* is 32 now"):
        fit(other, images, tiny.config(**KEYS), folder=tmp_path)


def test_a_run_from_before_a_key_was_there_is_still_the_same(tmp_path: Path):
    images = TensorExamples(torch.randint(256, (32, 1, 8, 8), dtype=torch.uint8))
    fit(tiny.images_model(), images, tiny.config(**KEYS), folder=tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    record = json.loads((tmp_path / "finished.json").read_text())
    del record["run"]["model"]["quantizers"], record["run"]["model"]["network"]["levels"]
    (tmp_path / "finished.json").write_text(json.dumps(record))
    again = fit(tiny.images_model(), images, tiny.config(**KEYS), folder=tmp_path)
    assert again.fingerprint() == VQVAE.from_pretrained(tmp_path).fingerprint()
    record["run"]["model"]["network"]["levels"] = 2
    (tmp_path / "finished.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"model.network.levels was 2 .* is 1 now"):
        fit(tiny.images_model(), images, tiny.config(**KEYS), folder=tmp_path)


def test_another_option_of_ones_own_modules_is_named(tmp_path: Path):
    run(tmp_path)
    other = tiny.model(commitment=2.0)
    other.encoder[1] = nn.SiLU()
    words = r"model\.encoder\.1 was Tanh\(\) .* is SiLU\(\) now"
    with pytest.raises(ValueError, match=words):
        fit(other, tiny.series(), tiny.config(**KEYS), folder=tmp_path)
    with pytest.raises(ValueError, match=r"quantizers\.0 was EMA.*commitment=0.25.* is EMA"):
        fit(tiny.model(commitment=2.0), tiny.series(), tiny.config(**KEYS), folder=tmp_path)


def test_a_run_folder_of_another_version_is_refused(tmp_path: Path):
    run(tmp_path)
    path = tmp_path / "checkpoints" / "step-00000006" / "state.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 0'))
    with pytest.raises(ValueError, match="format_version is 0, this vqkit reads 1"):
        run(tmp_path)


def test_a_finished_model_of_another_version_is_refused(tmp_path: Path):
    run(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints")
    path = tmp_path / "finished.json"
    path.write_text(path.read_text().replace('"format_version": 1', '"format_version": 0'))
    with pytest.raises(ValueError, match=r"finished.json: format_version is 0"):
        run(tmp_path)


def test_what_a_killed_run_left_half_written_is_removed(tmp_path: Path):
    (tmp_path / ".model.safetensors.4711.part").write_bytes(b"half")
    (tmp_path / "mine.part").write_bytes(b"kept")
    run(tmp_path)
    assert [path.name for path in tmp_path.rglob("*.part")] == ["mine.part"]


def test_a_checkpoint_cut_in_half_is_named_and_the_one_before_used(
    tmp_path: Path, capsys: pytest.CaptureFixture
):
    first = run(tmp_path)
    (tmp_path / "finished.json").unlink()
    damaged = tmp_path / "checkpoints" / "step-00000006" / "model.safetensors"
    os.truncate(damaged, damaged.stat().st_size // 2)
    capsys.readouterr()
    second = run(tmp_path, progress="lines")
    said = capsys.readouterr().err
    assert "step-00000006 is damaged: model.safetensors is cut" in said
    assert "going on from step 3" in said
    assert fingerprint(first) == fingerprint(second)


HOLD = """
import fcntl, os, sys
file = open(sys.argv[1], "a+")
fcntl.lockf(file, fcntl.LOCK_EX)
print(os.getpid(), file=file, flush=True)
print("ready", flush=True)
sys.stdin.read()
"""


def test_two_processes_cannot_train_in_one_folder(tmp_path: Path):
    words = [sys.executable, "-c", HOLD, str(tmp_path / ".lock")]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"ready\n"
        with pytest.raises(BlockingIOError, match=f"in use: process {holder.pid} trains") as error:
            run(tmp_path)
    assert "\n" not in str(error.value)
    run(tmp_path)


def test_more_entries_than_vectors_are_refused_before_anything_is_written(tmp_path: Path):
    model = tiny.model(size=4096)
    with pytest.raises(ValueError, match="codebook_size is 4096, but there are") as error:
        fit(model, tiny.series(), tiny.config(), folder=tmp_path)
    assert "\n" not in str(error.value)
    assert {path.name for path in tmp_path.iterdir()} <= {".lock"}


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, tensors: dict) -> None:
        if "00000006" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_tensors(path, tensors)

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(OSError, match="no room for checkpoint"):
        run(tmp_path)
    monkeypatch.undo()
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["step-00000003"]
    assert fingerprint(run(tmp_path)) == fingerprint(run(None))


def test_what_cannot_be_trained_is_refused():
    with pytest.raises(TypeError, match="model is a Linear; give a VQVAE, a Prior or a Task"):
        fit(nn.Linear(1, 1), tiny.series())


class Nothing:
    def __len__(self) -> int:
        return 0

    def example(self, index: int, seed: int | None = None) -> Any: ...


@pytest.mark.parametrize("wrong", [torch.rand(8, 2, 5), [1, 2]])
def test_what_is_no_examples_is_refused(wrong: Any):
    with pytest.raises(TypeError, match=r"examples is a .*; give examples, such as TensorExamples"):
        fit(tiny.model(), wrong, tiny.config())


def test_no_examples_are_refused():
    with pytest.raises(ValueError, match="examples has 0 items; give at least 1"):
        fit(tiny.model(), Nothing(), tiny.config())
    with pytest.raises(ValueError, match="eval_examples has 0 items"):
        fit(tiny.model(), tiny.series(), tiny.config(), eval_examples=Nothing())


@pytest.mark.parametrize("parts", [3, 9])
def test_a_batch_that_cannot_be_split_is_refused(parts: int):
    with pytest.raises(ValueError, match=f"batch_size is 8; give a multiple of {parts}"):
        run(None, micro_batches=parts)


def test_an_error_of_rank_0_is_an_error_of_all_and_a_result_is_shared():
    assert on_main(lambda: 5) == 5
    with pytest.raises(OSError, match="full"):
        on_main(lambda: (_ for _ in ()).throw(OSError("full")))


def fail_on_main(folder: Path) -> None:
    def fail() -> None:
        raise OSError(errno.ENOSPC, "full")

    try:
        on_main(fail)
    except OSError as error:
        (folder / f"{os.environ['RANK']}").write_text(str(error.errno))


@pytest.mark.slow
def test_an_error_of_rank_0_leaves_no_other_rank_waiting(tmp_path: Path):
    assert tiny.run_pair(fail_on_main, tmp_path / "store", tmp_path) == [0, 0]
    assert {(tmp_path / rank).read_text() for rank in "01"} == {str(errno.ENOSPC)}


def test_an_error_in_the_middle_gives_everything_back(monkeypatch: pytest.MonkeyPatch):
    def broken(*args: Any) -> int:
        raise RuntimeError("broken")

    monkeypatch.setattr(Trainer, "step", broken)
    model = tiny.model()
    with pytest.raises(RuntimeError, match="broken"):
        fit(model, tiny.series(), tiny.config())
    assert model.quantizers[0].commit_in_forward
