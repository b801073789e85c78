"""What must hold for texts, JSON and weights in files."""

import errno
import json
import os
import resource
import signal
from pathlib import Path

import pytest
import torch
from torch import nn

from vqkit import storage


def test_json_comes_back_and_has_no_numbers_that_are_none(tmp_path: Path):
    value = {"a": [1, 2.5, None], "b": "é"}
    storage.write_json(tmp_path / "a.json", value)
    assert storage.read_json(tmp_path / "a.json") == value
    with pytest.raises(ValueError, match="JSON compliant"):
        storage.write_json(tmp_path / "b.json", {"a": float("nan")})
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


@pytest.mark.parametrize("content", [b'{"a": 1', b"", b"\xff\xfe"])
def test_json_that_was_cut_is_named(tmp_path: Path, content: bytes):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.json is not valid JSON .*; restore it from a copy$"):
        storage.read_json(tmp_path / "a.json")


def tensors() -> dict[str, torch.Tensor]:
    return {
        "transposed": torch.arange(6.0).reshape(2, 3).T,
        "scalar": torch.tensor(7),
        "flag": torch.tensor(True),
        "half": torch.randn(3).bfloat16(),
        "trained": torch.ones(2, requires_grad=True),
    }


def test_tensors_come_back_bit_for_bit(tmp_path: Path):
    written = tensors()
    storage.write_tensors(tmp_path / "a.safetensors", written)
    read = storage.read_tensors(tmp_path / "a.safetensors")
    assert read.keys() == written.keys()
    for name, tensor in written.items():
        assert read[name].dtype == tensor.dtype
        assert torch.equal(read[name], tensor)


def test_equal_tensors_give_equal_bytes(tmp_path: Path):
    torch.manual_seed(0)
    written = tensors()
    storage.write_tensors(tmp_path / "a", written)
    storage.write_tensors(tmp_path / "b", {name: t.clone() for name, t in written.items()})
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("keep", [0, 4, 0.5, 0.99])
def test_tensors_that_were_cut_are_named(tmp_path: Path, keep: float):
    path = tmp_path / "a.safetensors"
    storage.write_tensors(path, {"a": torch.randn(100)})
    content = path.read_bytes()
    path.write_bytes(content[: int(keep if keep > 1 else keep * len(content))])
    with pytest.raises(ValueError, match=r"a\.safetensors is cut or damaged"):
        storage.read_tensors(path)


def test_tensors_that_are_missing_are_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r"a\.safetensors is not there"):
        storage.read_tensors(tmp_path / "a.safetensors")


def test_a_model_comes_back_with_its_config(tmp_path: Path):
    torch.manual_seed(0)
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    storage.save_model(tmp_path / "run", model, {"kind": "linear"})
    config = storage.load_config(tmp_path / "run")
    assert config == {"format_version": storage.FORMAT_VERSION, "kind": "linear"}
    storage.load_weights(tmp_path / "run", other)
    assert storage.fingerprint(other) == storage.fingerprint(model)


def test_saving_keeps_other_files_of_the_folder(tmp_path: Path):
    (tmp_path / "notes.txt").write_text("mine")
    storage.save_model(tmp_path, nn.Linear(3, 2), {})
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_weights_of_another_structure_are_refused_in_one_line(tmp_path: Path):
    storage.save_model(tmp_path, nn.Linear(3, 2), {})
    with pytest.raises(ValueError, match="does not fit the model") as caught:
        storage.load_weights(tmp_path, nn.Linear(3, 4))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", [{"format_version": 99}, {}, []])
def test_a_config_of_another_version_is_refused(tmp_path: Path, content: object):
    (tmp_path / storage.CONFIG).write_text(json.dumps(content))
    with pytest.raises(ValueError, match="the version of vqkit that wrote it"):
        storage.load_config(tmp_path)


def test_a_folder_without_a_config_is_named(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match="finished run"):
        storage.load_config(tmp_path)


def test_the_fingerprint_sees_every_name_shape_type_and_bit():
    class Holder(nn.Module):
        def __init__(self, **buffers: torch.Tensor) -> None:
            super().__init__()
            for name, buffer in buffers.items():
                self.register_buffer(name, buffer)

    base = torch.arange(6.0)
    nearly = base.clone()
    nearly[3] = torch.nextafter(nearly[3], torch.tensor(9.0))
    holders = [
        Holder(a=base),
        Holder(b=base),
        Holder(a=base.reshape(2, 3)),
        Holder(a=base.reshape(3, 2)),
        Holder(a=base.long()),
        Holder(a=nearly),
        Holder(a=base, b=base),
    ]
    assert len({storage.fingerprint(holder) for holder in holders}) == len(holders)
    assert storage.fingerprint(Holder(a=base.clone())) == storage.fingerprint(holders[0])
    assert storage.fingerprint(Holder(b=base, a=base)) == storage.fingerprint(holders[-1])


def test_tensors_may_be_read_by_whoever_may_read_other_files(tmp_path: Path):
    before = os.umask(0o027)
    try:
        storage.write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(3)})
    finally:
        os.umask(before)
    assert (tmp_path / "a.safetensors").stat().st_mode & 0o777 == 0o640


def test_tensors_without_room_are_an_error_of_the_system(tmp_path: Path):
    """Of safetensors it would be one without a number."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"a\.safetensors") as caught:
            storage.write_tensors(tmp_path / "a.safetensors", {"a": torch.zeros(3000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)
    assert caught.value.errno == errno.EFBIG
    assert not list(tmp_path.iterdir())
