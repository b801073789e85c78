"""The optimizer, its learning rate, and the moving average of weights."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from vqkit.quantizers import Codebook
from vqkit.training.config import TrainConfig

SPARED = (
    nn.LayerNorm,
    nn.RMSNorm,
    nn.GroupNorm,
    nn.modules.batchnorm._NormBase,
    nn.Embedding,
    Codebook,
)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict]:
    """The trainable parameters: weight matrices, which decay, and all others, which never do.

    Args:
        model: Whose parameters are trained.
        weight_decay: Decay of the weight matrices; none of biases, norms, embeddings, codebooks.
    """
    spared = {
        id(p) for part in model.modules() if isinstance(part, SPARED) for p in part.parameters()
    }
    groups = [
        {"params": [], "weight_decay": weight_decay},
        {"params": [], "weight_decay": 0.0},
    ]
    for parameter in model.parameters():
        if parameter.requires_grad:
            decays = parameter.dim() >= 2 and id(parameter) not in spared
            groups[0 if decays else 1]["params"].append(parameter)
    return [group for group in groups if group["params"]]


def make_optimizer(groups: list[dict], config: TrainConfig) -> torch.optim.Optimizer:
    """The optimizer that the config asks for, in its fastest form."""
    if config.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=config.learning_rate)
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)


def learning_rate(config: TrainConfig, step: int) -> float:
    """The learning rate of a step, counted from 0: a straight rise, then a cosine or a constant."""
    warmup = min(config.warmup_steps, config.steps - 1)
    if step < warmup:
        return config.learning_rate * (step + 1) / (warmup + 1)
    if config.schedule == "constant":
        return config.learning_rate
    progress = (step - warmup) / (config.steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * progress))


@torch.no_grad()
def clip_(parameters: list[nn.Parameter], clip_norm: float | None) -> Tensor:
    """Shortens the gradient where it is too long.

    Args:
        parameters: Whose gradients are shortened, in place.
        clip_norm: Longest norm over all parameters; None leaves every gradient as it is.

    Returns:
        The norm before. () float
    """
    gradients = [p.grad for p in parameters if p.grad is not None]
    if not gradients:
        return torch.zeros(())
    norm = nn.utils.get_total_norm(gradients)
    if clip_norm is not None and (norm.device.type != "cpu" or norm > clip_norm):
        nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
    return norm


def optimizer_tensors(optimizer: torch.optim.Optimizer, model: nn.Module) -> dict[str, Tensor]:
    """The optimizer's state by parameter name, such as ``encoder.0.weight/exp_avg``."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        f"{names[id(p)]}/{key}": value
        for p, state in optimizer.state.items()
        for key, value in state.items()
        if isinstance(value, Tensor)
    }


def load_optimizer(
    optimizer: torch.optim.Optimizer, model: nn.Module, tensors: dict[str, Tensor]
) -> None:
    """The inverse of ``optimizer_tensors``.

    Raises:
        ValueError: If a tensor belongs to no trained parameter.
    """
    parameters = dict(model.named_parameters())
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for full, value in tensors.items():
        name, _, key = full.rpartition("/")
        parameter = parameters.get(name)
        if parameter is None or id(parameter) not in trained:
            raise ValueError(f"the checkpoint has optimizer state of {name}, the model trains none")
        if value.shape == parameter.shape:
            # In the parameter's layout, which the fused kernels want.
            value = torch.empty_like(parameter, requires_grad=False).copy_(value)
        elif value.dim() == 0 and parameter.device.type != "cpu":
            value = value.to(parameter.device)
        optimizer.state[parameter][key] = value


class WeightAverage:
    """A moving average of all weights of a model, codebook entries included.

    An encoder of averaged weights beside entries that are not averaged would choose other tokens:
    everything is averaged, and swapped in and out, together.

    Args:
        model: Whose floating-point state is averaged.
        decay: Weight of the past, less than 1; less in the first steps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.tensors = {name: t.detach().clone() for name, t in _averaged(model).items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Adds the weights after a step, counted from 0."""
        weight = 1 - min(self.decay, (1 + step) / (10 + step))
        current = _averaged(model)
        for name, average in self.tensors.items():
            average.lerp_(current[name], weight)

    @torch.no_grad()
    def load(self, tensors: dict[str, Tensor]) -> None:
        """Takes averages that were saved."""
        for name, tensor in self.tensors.items():
            tensor.copy_(tensors[name])

    @contextmanager
    def applied(self, model: nn.Module) -> Iterator[None]:
        """The model with averaged weights; the last ones are put back afterwards."""
        last = {name: t.detach().clone() for name, t in _averaged(model).items()}
        try:
            self.apply(model)
            yield
        finally:
            _copy(last, model)

    def apply(self, model: nn.Module) -> None:
        """Replaces the weights of the model by their averages."""
        _copy(self.tensors, model)


def _averaged(model: nn.Module) -> dict[str, Tensor]:
    return {name: t for name, t in model.state_dict().items() if t.is_floating_point()}


@torch.no_grad()
def _copy(tensors: dict[str, Tensor], model: nn.Module) -> None:
    state = model.state_dict()
    for name, tensor in tensors.items():
        state[name].copy_(tensor)
