"""A feature space that is a model file of the user's own: ONNX, which runs no code of the file."""

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from vqkit.modalities.image.levels import normalize

LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])")  # a length follows it
PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")  # the first that there is


class OnnxFeatures:
    """The first output of an ONNX model, as one vector for each image.

    The model's one input is images (B, C, H, W), float32 in [-1, 1], B of any size. Images are
    resized where it has a fixed height and width, and grey ones repeated where it has 3 channels.

    Args:
        path: Of the file.
        shape: Of the images that it will see. (C, H, W)

    Raises:
        ImportError: If onnxruntime is not installed.
        FileNotFoundError: If the file is not there.
        ValueError: If it is no such model.
    """

    def __init__(self, path: Path | str, shape: Sequence[int]) -> None:
        self.path = Path(path)
        self.session = open_session(self.path)
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)" or len(inputs[0].shape) != 4:
            found = ", ".join(f"{i.name} {i.shape} {i.type}" for i in inputs)
            raise ValueError(
                f"{self.path} has the inputs {found}; give a model of one: float images "
                "(B, C, H, W)"
            )
        self.input = inputs[0]
        batch, self.channels, *self.size = (
            n if isinstance(n, int) else None for n in self.input.shape
        )
        if batch is not None:
            raise ValueError(
                f"{self.path} takes batches of {batch} alone; export it with a batch axis of any "
                "length"
            )
        if self.channels not in (None, shape[0]) and (self.channels, shape[0]) != (3, 1):
            raise ValueError(
                f"{self.path} takes images of {self.channels} channels, these have {shape[0]}; "
                "give another model"
            )
        self.name = f"{self.path.name} (SHA-256 {fingerprint(self.path)[:12]})"
        self.dim = self(torch.zeros(2, *shape)).shape[1]

    def __call__(self, images: Tensor) -> Tensor:
        """Features (B, F) float32 of images (B, C, H, W), uint8 or floating in [-1, 1].

        Raises:
            ValueError: If the model fails on them, or gives something else than finite numbers.
        """
        x = self.prepared(images)
        try:
            found = self.session.run(None, {self.input.name: x.cpu().numpy()})[0]
        except Exception as error:  # onnxruntime has a class for each of its own codes
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"{self.path} fails on images {tuple(x.shape)}: {reason}") from None
        if not isinstance(found, np.ndarray) or found.ndim < 2 or len(found) != len(x):
            shape = getattr(found, "shape", type(found).__name__)
            raise ValueError(
                f"{self.path} gives {shape} for {len(x)} images; let its first output be (B, F)"
            )
        features = torch.from_numpy(found.reshape(len(x), -1).astype(np.float32))
        if not features.isfinite().all():
            raise ValueError(f"{self.path} gives numbers that are not finite; give another model")
        return features.to(images.device)

    def prepared(self, images: Tensor) -> Tensor:
        """Images as the model takes them. (B, C, H, W) float32"""
        x = normalize(images).float()
        if self.channels == 3 and x.shape[1] == 1:
            x = x.expand(-1, 3, -1, -1)
        height, width = (n or own for n, own in zip(self.size, x.shape[2:], strict=True))
        if (height, width) != tuple(x.shape[2:]):
            x = F.interpolate(x, (height, width), mode="bilinear", antialias=True).clamp(-1, 1)
        return x.contiguous()


def fingerprint(path: Path) -> str:
    """A name for a model: the SHA-256 of its file and of those that hold its weights, in hex."""
    digest = hashlib.sha256()
    for file in (path, *weights_beside(path)):
        with file.open("rb") as content:
            digest.update(hashlib.file_digest(content, "sha256").digest())
    return digest.hexdigest()


def weights_beside(path: Path) -> list[Path]:
    """The files that a model names as those of its weights, in order.

    Each is a pair of strings in its bytes, ``location`` and the name: fields 1 and 2 of a
    StringStringEntryProto, a length before each (ONNX IR, External Tensor Data).
    """
    model, names = path.read_bytes(), set[str]()
    for match in LOCATION.finditer(model):
        low, *high = match[1]
        length = low % 128 + 128 * sum(high)
        names.add(os.fsdecode(model[match.end() : match.end() + length]))
    return [file for file in sorted(path.parent / name for name in names) if file.is_file()]


def open_session(path: Path) -> Any:
    """A session of onnxruntime with the model of a file.

    Raises:
        ImportError: If onnxruntime is not installed.
        FileNotFoundError: If the file is not there.
        ValueError: If it cannot be read.
    """
    try:
        import onnxruntime  # pyright: ignore[reportMissingImports]
    except ImportError:
        raise ImportError(
            f"features of {path} need onnxruntime, which is not installed; "
            'pip install "vqkit[onnx]"'
        ) from None
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such file; name an ONNX model")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3  # errors, which are raised as well
    have = onnxruntime.get_available_providers()
    providers = [name for name in PROVIDERS if name in have]
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # onnxruntime has a class for each of its own codes
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{path} is no ONNX model that can be opened: {reason}") from None
