"""What holds for what quantizers keep: precision, sizes, starts, and nothing pending at a load."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn


def unrounded(fn: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A conversion that moves tensors as another does, but never to half precision."""

    def convert(tensor: Tensor) -> Tensor:
        converted = fn(tensor)
        if tensor.is_floating_point() and converted.element_size() < 4:
            return tensor.to(converted.device)
        return converted

    return convert


def forget_pending(quantizer: nn.Module, _: object) -> None:
    """Drops what was collected since the last commit: it belongs to the state before."""
    for name, buffer in quantizer.named_buffers(recurse=False):
        if name.startswith("pending"):
            buffer.zero_()


def check_shapes(own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises ValueError if a tensor of a saved state has not the shape that it has here."""
    for name, here in own.items():
        there = given.get(name, here)
        if isinstance(here, Tensor) and isinstance(there, Tensor) and here.shape != there.shape:
            shapes = f"{tuple(there.shape)}, and here it has {tuple(here.shape)}"
            raise ValueError(
                f"{name} has shape {shapes}; make the quantizer with the sizes that were saved"
            )


class Starting(Protocol):
    """What starts from data and has no codebook of its own that keeps whether it has."""

    initialized: Tensor
    is_initialized: bool  # the same, where reading it does not wait for the device


def register_start(layer: nn.Module) -> None:
    """Lets a layer keep and save whether it has started; a state of before that was kept has."""
    layer.register_buffer("initialized", torch.zeros((), dtype=torch.bool))
    layer.register_load_state_dict_pre_hook(_start_what_is_given)
    layer.register_load_state_dict_post_hook(_read_start)


def mark_started(layer: Starting) -> None:
    """Says that a layer has started."""
    layer.initialized.fill_(True)
    layer.is_initialized = True


def _start_what_is_given(
    layer: nn.Module, state_dict: dict[str, Any], prefix: str, *_: object
) -> None:
    own = (*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False))
    if any(f"{prefix}{name}" in state_dict for name, _ in own):
        state_dict.setdefault(f"{prefix}initialized", torch.tensor(True))


def _read_start(layer: Any, _: object) -> None:
    layer.is_initialized = bool(layer.initialized)
