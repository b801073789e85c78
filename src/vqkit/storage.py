"""Texts, JSON and weights as files, without pickle, and the fingerprint of a model."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vqkit.atomic import atomic_file

FORMAT_VERSION = 1
CONFIG, WEIGHTS = "config.json", "model.safetensors"


def write_text(path: Path, text: str) -> None:
    """Writes a text file, whole or not at all."""
    with atomic_file(path) as part:
        part.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    """Writes a JSON file, whole or not at all."""
    write_text(path, json.dumps(value, indent=2, allow_nan=False) + "\n")


def read_json(path: Path, fix: str = "restore it from a copy") -> Any:
    """Reads a JSON file.

    Args:
        path: The file.
        fix: What to do if it is damaged, for the message.

    Raises:
        FileNotFoundError: If it is not there.
        ValueError: If it is not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not valid JSON ({error}); {fix}") from None


def write_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    """Writes named tensors as safetensors, whole or not at all; equal tensors, equal bytes.

    Raises:
        OSError: If the file cannot be written.
    """
    # Copies, because safetensors refuses tensors that share memory, as tied ones do.
    plain = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    with atomic_file(path) as part:
        part.touch()
        mode = part.stat().st_mode  # safetensors would let nobody else read the file
        try:
            save_file(plain, part)
        except SafetensorError as error:
            if found := re.search(r"os error (\d+)", str(error)):
                raise OSError(int(found[1]), os.strerror(int(found[1])), str(path)) from None
            raise
        part.chmod(mode)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads named tensors.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it is not safetensors, or was cut.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is cut or damaged ({error}); restore it from a copy") from None


def save_model(folder: Path, module: nn.Module, config: dict[str, Any]) -> None:
    """Writes a module's weights, and the config that builds it, into a folder.

    Args:
        folder: Made when missing; other files in it stay.
        module: Whose ``state_dict`` is written.
        config: JSON values; ``format_version`` is added.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / WEIGHTS, module.state_dict())
    write_json(folder / CONFIG, {"format_version": FORMAT_VERSION, **config})


def load_config(folder: Path) -> dict[str, Any]:
    """Reads the config of a saved module.

    Raises:
        FileNotFoundError: If the folder holds none.
        ValueError: If another version of vqkit wrote it.
    """
    path = Path(folder) / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder} has no {CONFIG}; give the folder of a finished run")
    config = read_json(path)
    version = config.get("format_version") if isinstance(config, dict) else None
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path}: format_version is {version}, this vqkit reads {FORMAT_VERSION}; "
            "open it with the version of vqkit that wrote it"
        )
    return config


def saved_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """The shapes of saved weights by name, without reading them; empty where there are none.

    Raises:
        ValueError: If the file is damaged.
    """
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        return {}
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()  # it is no mapping
            return {name: tuple(file.get_slice(name).get_shape()) for name in names}
    except SafetensorError as error:
        raise ValueError(f"{path} is cut or damaged ({error}); restore it from a copy") from None


def load_weights(folder: Path, module: nn.Module) -> None:
    """Loads saved weights into a module of the same structure.

    Raises:
        FileNotFoundError: If the folder holds no weights.
        ValueError: If the file is damaged or belongs to another structure.
    """
    path = Path(folder) / WEIGHTS
    tensors = read_tensors(path)
    try:
        module.load_state_dict(tensors)
    except (RuntimeError, ValueError) as error:
        first = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} does not fit the model: {first}") from None


def fingerprint(module: nn.Module) -> str:
    """A name for exact weights: hexadecimal SHA-256 of all names, types, shapes and values."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        plain = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {plain.dtype} {tuple(plain.shape)}\n".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
