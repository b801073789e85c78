"""What holds for whatever a quantizer keeps: precision, sizes, and nothing pending after a load."""

from collections.abc import Callable
from typing import Any

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


def keep_precision(owner: nn.Module, state: dict[str, Any], prefix: str, *_: object) -> None:
    """Gives tensors that are to be loaded the type they have here.

    Torch does so itself but where it takes them as they are (``assign=True``), which would round.
    """
    for name, here in owner.state_dict(prefix=prefix).items():
        there = state.get(name)
        if isinstance(here, Tensor) and isinstance(there, Tensor) and here.dtype != there.dtype:
            state[name] = there.to(here.dtype)
