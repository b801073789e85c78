"""What holds for what quantizers keep: precision, sizes, starts, and nothing pending at a load."""

from collections.abc import Callable
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


def check_shapes(quantizer: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Raises ValueError if a tensor of a state that is to be loaded has not the shape it has here.

    A hook, which is called before anything of the quantizer is loaded, wherever the quantizer is.
    """
    for name, here in quantizer.state_dict(prefix=prefix).items():
        there = state.get(name, here)
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


def keep_precision(owner: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Gives tensors that are to be loaded the type they have here.

    Torch does so itself but where it takes them as they are (``assign=True``), which would round.
    """
    for name, here in owner.state_dict(prefix=prefix).items():
        there = state.get(name)
        if isinstance(here, Tensor) and isinstance(there, Tensor) and here.dtype != there.dtype:
            state[name] = there.to(here.dtype)
