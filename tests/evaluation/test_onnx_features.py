"""What must hold for a feature space that is a file of ONNX."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from onnx import TensorProto, helper

from vqkit.evaluation import OnnxFeatures
from vqkit.evaluation.onnx_features import fingerprint, weights_beside

MIX = torch.randn(12, 5, generator=torch.Generator().manual_seed(0))


def write(
    path: Path, shape: list[Any], *, side: int = 2, kind: int = TensorProto.FLOAT, op: str = "none"
) -> Path:
    """A file of the model: means over a grid of ``side`` x ``side``, and a linear map of those."""
    pooled = helper.make_node(
        "AveragePool", ["x"], ["p"], kernel_shape=[side] * 2, strides=[side] * 2
    )
    nodes = [
        pooled,
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "mix"], ["m"]),
        helper.make_node("Log" if op == "log" else "Identity", ["m"], ["y"]),
    ]
    if op == "mean":
        nodes = [helper.make_node("ReduceMean", ["x"], ["y"], keepdims=0)]
    graph = helper.make_graph(
        nodes,
        "features",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info("y", kind, None)],
        [helper.make_tensor("mix", TensorProto.FLOAT, MIX.shape, MIX.flatten().tolist())],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def expected(x: torch.Tensor, side: int = 2) -> torch.Tensor:
    return F.avg_pool2d(x.float() / 127.5 - 1, side).flatten(1) @ MIX


def images(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8)


def test_features_are_what_the_model_gives_for_images_from_minus_one_to_one(tmp_path: Path):
    space = OnnxFeatures(write(tmp_path / "m.onnx", ["n", 3, 4, 4]), (3, 4, 4))
    x = images(7, 3, 4, 4)
    assert space.dim == 5
    torch.testing.assert_close(space(x), expected(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(space(x.float() / 127.5 - 1), space(x))


def test_the_space_is_called_by_the_file_and_its_fingerprint(tmp_path: Path):
    first = OnnxFeatures(write(tmp_path / "m.onnx", ["n", 3, 4, 4]), (3, 4, 4)).name
    other = OnnxFeatures(write(tmp_path / "m.onnx", ["n", 3, "h", "w"]), (3, 4, 4)).name
    assert first.startswith("m.onnx (SHA-256 ")
    assert first != other


def test_the_fingerprint_is_also_that_of_weights_in_a_file_beside(tmp_path: Path):
    names = []
    for number in range(2):
        model = onnx.load(write(tmp_path / "m.onnx", ["n", 3, 4, 4]))
        mix = model.graph.initializer[0]
        mix.raw_data = np.full((12, 5), number, dtype=np.float32).tobytes()
        mix.ClearField("float_data")
        onnx.save(
            model,
            tmp_path / "m.onnx",
            save_as_external_data=True,
            location="m.onnx.data",
            size_threshold=0,
        )
        names.append(OnnxFeatures(tmp_path / "m.onnx", (3, 4, 4)).name)
        (tmp_path / "m.onnx.data").unlink()
    assert len(set(names)) == 2


@pytest.mark.parametrize("location", ["weights.bin", "w" * 200, "below/weights"])
def test_weights_are_found_by_the_name_in_the_model(tmp_path: Path, location: str):
    path = write(tmp_path / "m.onnx", ["n", 3, 4, 4])
    assert weights_beside(path) == []
    (tmp_path / "below").mkdir()
    (tmp_path / "m.onnx.d").mkdir()  # not the model's, as all that it does not name
    (tmp_path / "m.onnx.bak").write_bytes(b"before")
    before = fingerprint(path)
    (tmp_path / "m.onnx.bak").write_bytes(b"after")
    assert fingerprint(path) == before
    model = onnx.load(path)
    mix = model.graph.initializer[0]
    mix.raw_data = MIX.numpy().tobytes()
    mix.ClearField("float_data")
    onnx.save(model, path, save_as_external_data=True, location=location, size_threshold=0)
    assert weights_beside(path) == [tmp_path / location]


def test_grey_images_are_repeated_for_a_model_of_three_channels(tmp_path: Path):
    space = OnnxFeatures(write(tmp_path / "m.onnx", ["n", 3, 4, 4]), (1, 4, 4))
    x = images(3, 1, 4, 4)
    expanded = expected(x.expand(-1, 3, -1, -1))
    torch.testing.assert_close(space(x), expanded, rtol=1e-5, atol=1e-5)


def test_images_are_resized_to_what_a_model_of_one_size_takes(tmp_path: Path):
    space = OnnxFeatures(write(tmp_path / "m.onnx", ["n", 3, 4, 4]), (3, 8, 8))
    flat = torch.full((2, 3, 8, 8), 200, dtype=torch.uint8)
    torch.testing.assert_close(space(flat), expected(flat[..., :4, :4]), rtol=1e-5, atol=1e-5)


def test_a_model_of_any_size_sees_images_as_they_are(tmp_path: Path):
    space = OnnxFeatures(write(tmp_path / "m.onnx", ["n", 3, "h", "w"], side=4), (3, 8, 8))
    x = images(2, 3, 8, 8)
    torch.testing.assert_close(space(x), expected(x, 4), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "options", "words"),
    [
        ([1, 3, 4, 4], {}, "takes batches of 1 alone; export it with a batch axis of any length"),
        (["n", 4, 4, 4], {"op": "mean"}, "takes images of 4 channels, these have 3"),
        (["n", 48], {"op": "mean"}, "give a model of one: float images"),
        (["n", 3, 4, 4], {"op": "mean"}, "let its first output be .B, F."),
        (["n", 3, 4, 4], {"op": "log"}, "not finite"),
        (["n", 3, "h", "w"], {"side": 1}, "fails on images"),
    ],
)
def test_a_model_that_gives_no_features_of_images_is_refused_in_a_line(
    tmp_path: Path, shape: list[Any], options: dict[str, Any], words: str
):
    path = write(tmp_path / "m.onnx", shape, **options)
    with pytest.raises(ValueError, match=words) as error:
        OnnxFeatures(path, (3, 4, 4))(images(3, 3, 4, 4))
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_file_that_is_no_model_or_not_there_is_named(tmp_path: Path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ValueError, match=r"text\.onnx is no ONNX model that can be opened"):
        OnnxFeatures(tmp_path / "text.onnx", (3, 4, 4))
    with pytest.raises(FileNotFoundError, match=r"none\.onnx: there is no such file"):
        OnnxFeatures(tmp_path / "none.onnx", (3, 4, 4))


def test_without_onnxruntime_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ImportError, match=r'pip install "vqkit\[onnx\]"'):
        OnnxFeatures(write(tmp_path / "m.onnx", ["n", 3, 4, 4]), (3, 4, 4))


def test_the_same_images_have_the_same_features_in_any_batch(tmp_path: Path):
    space = OnnxFeatures(write(tmp_path / "m.onnx", ["n", 3, 4, 4]), (3, 4, 4))
    x = images(6, 3, 4, 4)
    parts = np.concatenate([space(part).numpy() for part in x.split(4)])
    np.testing.assert_allclose(parts, space(x).numpy(), rtol=1e-5, atol=1e-5)
