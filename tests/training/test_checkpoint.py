"""A checkpoint is whole, or it is passed over."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from vqkit.training import checkpoint
from vqkit.training.checkpoint import Checkpoints, read, room_for

MODEL = {"weight": torch.arange(6.0).reshape(2, 3), "mask": torch.tensor([True, False])}
TRAINING = {"optimizer/weight/step": torch.tensor(3.0)}


def saved(folder: Path, *steps: int, keep: int = 5) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep)
    for step in steps:
        checkpoints.save(step, MODEL, TRAINING, {"seconds": step / 3})
    return checkpoints


def test_what_is_read_is_what_was_saved(tmp_path: Path):
    found = saved(tmp_path, 7).latest(pytest.fail)
    assert found is not None
    assert (found.step, found.state) == (7, {"seconds": 7 / 3})
    assert_close(found.model(), MODEL, rtol=0, atol=0)
    assert_close(found.training(), TRAINING, rtol=0, atol=0)


def test_tied_weights_are_saved_under_both_names(tmp_path: Path):
    tied = torch.ones(3)
    Checkpoints(tmp_path, 2).save(1, {"a": tied, "b": tied}, {}, {})
    found = read(tmp_path / "checkpoints" / "step-00000001").model()
    assert torch.equal(found["a"], found["b"])


def test_the_latest_ones_are_kept(tmp_path: Path):
    paths = saved(tmp_path, 1, 2, 30, 400, keep=2).paths()
    assert [path.name for path in paths] == ["step-00000030", "step-00000400"]


def test_there_is_nothing_to_go_on_from_in_a_new_folder(tmp_path: Path):
    assert Checkpoints(tmp_path / "new", 2).latest(pytest.fail) is None


def cut(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def edit(path: Path) -> None:
    path.write_text(path.read_text().replace('"step": 20', '"step": 21'))


DAMAGES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "weights cut in half": ("model.safetensors", cut),
    "optimizer cut in half": ("optimizer.safetensors", cut),
    "state cut in half": ("state.json", cut),
    "a bit flipped": ("model.safetensors", flip),
    "state edited": ("state.json", edit),
    "weights gone": ("model.safetensors", Path.unlink),
    "state gone": ("state.json", Path.unlink),
}


@pytest.mark.parametrize(("name", "damage"), DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_named_and_the_one_before_is_used(
    tmp_path: Path, name: str, damage: Callable[[Path], None]
):
    checkpoints = saved(tmp_path, 10, 20)
    damage(checkpoints.paths()[-1] / name)
    warnings: list[str] = []
    found = checkpoints.latest(warnings.append)
    assert found is not None
    assert found.step == 10
    assert len(warnings) == 1
    assert "step-00000020" in warnings[0]
    assert name in warnings[0]
    assert "\n" not in warnings[0]


def test_the_last_checkpoint_is_passed_over_for_none(tmp_path: Path):
    checkpoints = saved(tmp_path, 10, 20)
    for path in checkpoints.paths():
        cut(path / "model.safetensors")
    warnings: list[str] = []
    assert checkpoints.latest(warnings.append) is None
    assert warnings[0].endswith("; it is passed over for the one before")
    assert warnings[1].endswith("; it is the last there is")


def test_what_is_saved_outlives_damaged_checkpoints_of_later_steps(tmp_path: Path):
    checkpoints = saved(tmp_path, 30, 40, keep=2)
    for path in checkpoints.paths():
        cut(path / "model.safetensors")
    checkpoints.save(10, MODEL, TRAINING, {})
    assert [read(path).step for path in checkpoints.paths()] == [10]


def test_a_damaged_checkpoint_is_replaced_when_its_step_comes_again(tmp_path: Path):
    checkpoints = saved(tmp_path, 10, 20)
    cut(checkpoints.paths()[-1] / "model.safetensors")
    checkpoints.save(20, MODEL, TRAINING, {})
    assert read(checkpoints.paths()[-1]).step == 20


def test_a_checkpoint_of_another_version_is_refused_and_not_passed_over(tmp_path: Path):
    checkpoints = saved(tmp_path, 10)
    path = checkpoints.paths()[0] / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format_version": 99}))
    with pytest.raises(ValueError, match="format_version is 99, this vqkit reads 1"):
        checkpoints.latest(pytest.fail)


@pytest.mark.parametrize("after", [0, 1, 2])
def test_a_full_disk_is_said_in_one_line_and_leaves_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: int
):
    checkpoints = saved(tmp_path, 10)
    writes = []

    def full(function: Callable[..., None]) -> Callable[..., None]:
        def write(*args) -> None:
            if len(writes) == after:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            writes.append(args)
            function(*args)

        return write

    monkeypatch.setattr(checkpoint, "write_tensors", full(checkpoint.write_tensors))
    monkeypatch.setattr(checkpoint, "write_json", full(checkpoint.write_json))
    with pytest.raises(OSError, match=r"no room for checkpoint .*step-00000020") as error:
        checkpoints.save(20, MODEL, TRAINING, {})
    assert error.value.errno == errno.ENOSPC
    assert "\n" not in str(error.value)
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-00000010"]


def test_other_errors_of_the_disk_stay_what_they_are():
    with pytest.raises(PermissionError), room_for("it"):
        raise PermissionError(errno.EACCES, "not yours")


def test_what_killed_runs_left_half_written_is_removed(tmp_path: Path):
    checkpoints = saved(tmp_path, 10)
    part = checkpoints.folder / ".step-00000020.4711.part"
    part.mkdir()
    (part / "model.safetensors").write_bytes(b"half")
    checkpoints.clean()
    assert [path.name for path in checkpoints.folder.iterdir()] == ["step-00000010"]
