"""What a forward pass reads of state that moves on before its backward pass."""

from collections.abc import Callable
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from torch.utils import checkpoint

TOKEN = 2**62

# What passes have read whose backward pass is to come, by the hook that packs their tensors: it
# lives as long as these.
_read: WeakKeyDictionary[Callable[..., object], dict[int, list[Tensor]]] = WeakKeyDictionary()


def is_repeated() -> bool:
    """Whether activation checkpointing runs a forward pass again, from inside a backward pass."""
    return not torch.compiler.is_compiling() and torch._C._current_graph_task_id() != -1


def of_pass(read: Callable[[], Tensor]) -> Tensor:
    """``all_of_pass`` for one value. (...)"""
    return all_of_pass(lambda: [read()])[0]


def all_of_pass(read: Callable[[], list[Tensor]]) -> list[Tensor]:
    """What ``read`` gives; when a pass is repeated, what it gave then, and ``read`` is not called.

    A pass is known again by torch's random numbers of the CPU: checkpointing puts back their
    state before it repeats a pass. So each call draws one of them, but only in what torch
    checkpoints, and nowhere else.

    Compiled, the values are copies that the backward pass keeps. It would otherwise compute them
    again from buffers that have moved on by then; that they are made in the forward pass is sure
    if that uses one of them.

    Args:
        read: Looks at buffers that this or a later pass changes, and may change them.

    Returns:
        The values. Each (...)

    Raises:
        RuntimeError: If the pass that is repeated is not known.
    """
    if torch.compiler.is_compiling():
        return _kept(read())
    if is_repeated():
        return _recalled()
    values = read()
    hook = _hook_of_checkpoint()
    if hook is not None:
        _remember(hook, values)
    return values


def _hook_of_checkpoint() -> Callable[..., object] | None:
    """What unpacks the tensors of the innermost checkpoint; None outside.

    Others pack tensors too, inside a checkpoint or without one: ``save_on_cpu`` repeats no pass.
    """
    stack, others = torch._C._autograd, []  # pyright: ignore[reportAttributeAccessIssue]
    try:
        while (hooks := stack._top_saved_tensors_default_hooks(True)) is not None:
            if getattr(hooks[1], "__module__", None) == checkpoint.__name__:
                return hooks[1]
            others.append(hooks)
            stack._pop_saved_tensors_default_hooks()
        return None
    finally:
        for hooks in reversed(others):
            stack._push_saved_tensors_default_hooks(*hooks)


def _remember(hook: Callable[..., object], values: list[Tensor]) -> None:
    """Keeps copies for as long as a hook lives."""
    past, token = _read.setdefault(hook, {}), _token()
    if token in past:
        raise RuntimeError(
            "two passes of a checkpointed layer began with the same random numbers; call "
            "torch.manual_seed outside of what is checkpointed, with another seed each time"
        )
    past[token] = [value.detach().clone() for value in values]


def _token() -> int:
    """A number that is drawn again when the pass is repeated."""
    return int(torch.randint(TOKEN, (), device="cpu"))


def _recalled() -> list[Tensor]:
    """What was read at this place of the pass that is repeated."""
    token = _token()
    found = [past[token] for past in list(_read.values()) if token in past]
    if len(found) != 1:
        raise RuntimeError(
            f"{len(found)} passes are known that a backward pass might repeat in a quantizer; "
            "checkpoint with use_reentrant=False and preserve_rng_state=True, and seed no two "
            "passes alike"
        )
    return found[0]


# An operator, because what a compiler can look into it may compute again in the backward pass.
@torch.library.custom_op("vqkit::kept", mutates_args=())
def _kept(values: list[Tensor]) -> list[Tensor]:
    if torch._C._current_graph_task_id() != -1:
        raise RuntimeError(
            "checkpointing runs a compiled quantizer again, which would count its vectors twice; "
            "leave it out of what is compiled, or out of what is checkpointed"
        )
    return [value.clone() for value in values]


@_kept.register_fake
def _(values: list[Tensor]) -> list[Tensor]:
    return [torch.empty_like(value) for value in values]


_kept.register_autograd(lambda ctx, gradients: gradients)
