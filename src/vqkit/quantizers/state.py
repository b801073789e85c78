"""What holds for whatever a quantizer keeps: precision, sizes, and nothing pending after a load."""

from collections.abc import Callable, Mapping
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


def check_shapes(own: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    """Raises ValueError if a tensor of a saved state has not the shape that it has here."""
    for name, here in own.items():
        there = given.get(name, here)
        if isinstance(here, Tensor) and isinstance(there, Tensor) and here.shape != there.shape:
            shapes = f"{tuple(there.shape)}, and here it has {tuple(here.shape)}"
            raise ValueError(
                f"{name} has shape {shapes}; make the quantizer with the sizes that were saved"
            )
