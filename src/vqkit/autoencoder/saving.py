"""Autoencoders in folders: saved, opened, named."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from pydantic import ValidationError
from torch import nn

from vqkit import storage
from vqkit.quantizers.base import Quantizer
from vqkit.quantizers.codebook import Codebook

if TYPE_CHECKING:
    from vqkit.autoencoder.model import VQVAE

KIND = "vqvae"


def save(model: VQVAE, folder: Path | str) -> None:
    """Writes the weights, and the config if one built the model.

    Args:
        model: What to save.
        folder: Made when missing; other files in it stay.
    """
    from vqkit.autoencoder.config import ADAPTER

    config = None
    if model.config is not None:
        config = ADAPTER.dump_python(model.config, mode="json")
    storage.save_model(Path(folder), model, {"kind": KIND, "model": config})


def load(folder: Path | str, model: VQVAE | None, device: torch.device | str) -> VQVAE:
    """Opens what ``save`` wrote.

    Args:
        folder: Where it is.
        model: What to load the weights into; None to build it from the saved config.
        device: Where to put the model.

    Returns:
        The model, in evaluation mode.

    Raises:
        FileNotFoundError: If the folder holds no saved model.
        ValueError: If it holds something else, is damaged, or does not fit the model.
    """
    folder = Path(folder)
    saved = storage.load_config(folder)
    if saved.get("kind") != KIND:
        raise ValueError(f"{folder} holds a {saved.get('kind')}, not a {KIND}; give a tokenizer")
    model = model or build(saved.get("model"), folder / storage.CONFIG)
    resize(model, storage.saved_shapes(folder))
    storage.load_weights(folder, model)
    return model.to(device).eval()


def resize(model: VQVAE, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Gives codebooks the sizes that they were saved with: some are pruned or extended later.

    Args:
        model: Whose codebooks are resized, where they have the saved entries' length.
        shapes: Of the saved tensors, by name.
    """
    for name, book in model.named_modules():
        if isinstance(book, Codebook):
            shape, dim = shapes.get(f"{name}.entries", ()), book.entries.shape[1]
            if len(shape) == 2 and shape[1] == dim and 2 <= shape[0] != book.size:
                book.set_size(shape[0])


def build(config: object, path: Path) -> VQVAE:
    """The model of a saved config, with new weights.

    Raises:
        ValueError: If there is no config, or it is not valid.
    """
    from vqkit.autoencoder.config import ADAPTER
    from vqkit.autoencoder.model import VQVAE

    if config is None:
        raise ValueError(
            f"{path} does not say how to build the model, for its parts are your own; build it and "
            "give it as model="
        )
    try:
        found = ADAPTER.validate_python(config)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in ("model", *first["loc"][1:]))  # the first: its type
        raise ValueError(f"{path}: {key}: {first['msg']}; it was changed or is damaged") from None
    return VQVAE.from_config(found)


def fingerprint(model: VQVAE) -> str:
    """A name for all that determines codes and reconstructions: weights, and how they compute.

    The objective's scales and the statistics of the codebooks have no part in it. How a network of
    the user's own computes is not known: there the weights alone count.

    Returns:
        Hexadecimal.
    """
    from vqkit.autoencoder.config import ADAPTER

    modules = dict(model.named_modules())
    books = {name for name, module in modules.items() if isinstance(module, Codebook)}
    layers = {name for name, module in modules.items() if isinstance(module, Quantizer)}
    shell = nn.Module()
    for name, tensor in model.state_dict().items():
        owner, _, last = name.rpartition(".")
        if name.startswith("objective.") or (owner in books and last != "entries"):
            continue
        if owner in layers and last == "initialized":
            continue  # whether values came from data changes no code
        shell.register_buffer(name.replace(".", "/"), tensor)
    if model.config is not None:
        # Without defaults, so that a key of a later version changes nothing.
        config = ADAPTER.dump_json(model.config, exclude_defaults=True)
        shell.register_buffer("config", torch.frombuffer(bytearray(config), dtype=torch.uint8))
    return storage.fingerprint(shell)
