"""Convolutions in time that see the past alone: whole recordings, or chunk after chunk.

Features are (B, C, 1, T) with channels last in memory, which makes convolutions of few channels up
to twice as fast on a CPU.
"""

from collections.abc import Callable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Past = dict[nn.Module, Tensor]
"""What each convolution has seen last: kept from chunk to chunk. Each (B, C, 1, context), of clips
(B, C, context, H, W)"""

Activation = Literal["elu", "silu", "snake"]
GAINS: dict[Activation, float] = {"elu": 1.25, "silu": 1.68, "snake": 0.85}
"""What makes up for the smaller, or larger, size of what comes out of each."""
NEAR_NOTHING = 0.1  # gain of the last weights of a residual unit, which begins near the identity
NARROW = 4  # channels of an input that a matrix product reads faster than a convolution does
SEVERAL = 8  # outputs from which weights that were laid out for good pay
FEW = 128  # outputs up to which it is faster, too: a convolution first lays its filters out anew


class Causal(nn.Module):
    """A module whose output at any time depends on inputs up to that time alone."""

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        """Features (B, C, 1, T) to features (B, C', 1, T').

        Args:
            x: The whole, or the chunk that follows those that ``past`` has seen.
            past: What was seen before, brought up to date; None: nothing was, and nothing follows.
        """
        raise NotImplementedError

    def fold(self) -> None:
        """Computes once what depends on weights alone, of a layer that stays as it is."""


class CausalConv(Causal):
    """A convolution, padded at its beginning.

    Output t sees inputs up to (t + 1) stride - 1. Each filter is a direction and a length of its
    own: Weight Normalization, equation 2, https://arxiv.org/abs/1602.07868

    Args:
        channels: Of the input.
        outputs: Channels of the output.
        kernel_size: Inputs that a filter sees.
        stride: Inputs from one output to the next; T must be a multiple of it.
        dilation: Inputs from one that a filter sees to the next; 1 if there is a stride.
        gain: How much larger outputs are than inputs at the start.

    Attributes:
        context: Inputs before a chunk that its outputs depend on.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel_size: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.stride, self.dilation = stride, dilation
        self.context = (kernel_size - 1) * dilation + 1 - stride
        if self.context < 0:
            raise ValueError(f"kernel_size is {kernel_size}; give at least the stride, {stride}")
        first = torch.randn(outputs, channels, 1, kernel_size)
        first *= gain / (channels * kernel_size) ** 0.5
        self.direction = nn.Parameter(first)
        self.length = nn.Parameter(norms(first))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.folded: tuple[Tensor, Tensor] | None = None
        self.packed: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The filters. (outputs, channels, 1, kernel_size)"""
        if self.folded is not None:
            return self.folded[0]
        return self.direction * (self.length / norms(self.direction))

    @property
    def matrix(self) -> Tensor:
        """The filters as a matrix. (outputs, kernel_size channels)"""
        if self.folded is not None:
            return self.folded[1]
        return self.weight.squeeze(2).transpose(1, 2).flatten(1)

    def fold(self) -> None:
        self.folded = (self.weight.detach(), self.matrix.detach().contiguous())
        self.packed = packed(self.folded[1]) if self.direction.shape[1] > NARROW else None

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        x = self._joined(x, past)
        reach = self.context + self.stride
        num = (x.shape[3] - reach) // self.stride + 1
        if x.shape[1] > NARROW and len(x) * num > FEW:
            strides, dilations = (1, self.stride), (1, self.dilation)
            return F.conv2d(x, self.weight, self.bias, stride=strides, dilation=dilations)
        windows = x.squeeze(2).transpose(1, 2).unfold(1, reach, self.stride)  # (B, T, C, reach)
        rows = windows[..., :: self.dilation].movedim(3, 2).flatten(2)
        return self._product(rows).movedim(2, 1).unsqueeze(2)

    def _product(self, rows: Tensor) -> Tensor:
        """What the filters make of windows as rows. (B, T, kernel_size channels) to (B, T, O)"""
        many = len(rows) * rows.shape[1] >= SEVERAL
        if self.packed is None or not many or rows.dtype != torch.float32:
            return F.linear(rows, self.matrix, self.bias)
        rows = rows.contiguous()
        return torch.ops.mkldnn._linear_pointwise(rows, self.packed, self.bias, "none", [], "")

    def _joined(self, x: Tensor, past: Past | None) -> Tensor:
        """The chunk behind what was seen last, or behind zeros. (B, C, 1, context + T)"""
        if self.context == 0:
            return x
        if past is None:
            return F.pad(x, (self.context, 0))
        seen = past.get(self)
        x = F.pad(x, (self.context, 0)) if seen is None else torch.cat([seen, x], dim=3)
        past[self] = x[..., x.shape[3] - self.context :]
        return x


class CausalUpsample(Causal):
    """A transposed convolution whose kernel is two strides long, cut at its end.

    That is a convolution of each input and the one before it, whose channels are so many outputs
    one after another.

    Args:
        channels: Of the input.
        outputs: Channels of the output.
        stride: Outputs of one input.
        kernel_size: Inputs that an output sees.
        gain: How much larger outputs are than inputs at the start.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        stride: int,
        *,
        kernel_size: int = 2,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.stride = stride
        self.conv = CausalConv(channels, stride * outputs, kernel_size, gain=gain)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        y = self.conv(x, past).movedim(1, 3)  # (B, 1, T, stride outputs)
        return y.unflatten(3, (self.stride, -1)).flatten(2, 3).movedim(3, 1)


class CausalResidual(Causal):
    """Adds to its input what a dilated and a 1x1 convolution make of it, each behind an activation.

    SoundStream, figure 3, https://arxiv.org/abs/2107.03312

    Args:
        channels: Of input and output.
        hidden: Channels between the two convolutions.
        kernel_size: Of the dilated one.
        dilation: Of it.
        activation: What is before each of them.
    """

    def __init__(
        self,
        channels: int,
        hidden: int,
        *,
        kernel_size: int = 3,
        dilation: int = 1,
        activation: Activation = "elu",
    ) -> None:
        super().__init__()
        self.first = activated(activation, channels)
        gain = GAINS[activation]
        self.wide = CausalConv(channels, hidden, kernel_size, dilation=dilation, gain=gain)
        self.second = activated(activation, hidden)
        self.narrow = CausalConv(hidden, channels, 1, gain=NEAR_NOTHING)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return x + self.narrow(self.second(self.wide(self.first(x), past)), past)


class CausalStack(Causal):
    """Modules one after another; those that are not causal see each time alone.

    Args:
        modules: In order.
    """

    def __init__(self, *modules: nn.Module) -> None:
        super().__init__()
        self.layers = nn.ModuleList(modules)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        for layer in self.layers:
            x = layer(x, past) if isinstance(layer, Causal) else layer(x)
        return x


class Snake(nn.Module):
    """x + sin(a x)^2 / a, each channel with a frequency of its own: waves go on as waves.

    Neural Networks Fail to Learn Periodic Functions, equation 3, https://arxiv.org/abs/2006.08195

    Args:
        channels: Number of them.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.frequency = nn.Parameter(torch.ones(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, C, 1, T) to features of the same shape."""
        return x + (self.frequency * x).sin().square() / (self.frequency + 1e-9)


def norms(filters: Tensor) -> Tensor:
    """The length of each filter (O, C, 1, K). (O, 1, 1, 1)"""
    return filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1)


def packed(matrix: Tensor) -> Tensor | None:
    """A matrix (O, I) as oneDNN multiplies rows by it, laid out once; None where it cannot.

    On some processors that takes half of the time of ``F.linear``.
    """
    lay_out = getattr(torch.ops.mkldnn, "_reorder_linear_weight", None)
    if lay_out is None or not matrix.is_cpu or matrix.dtype != torch.float32:
        return None
    return lay_out(matrix, None) if torch.backends.mkldnn.is_available() else None


def activated(name: Activation, channels: int) -> nn.Module:
    """The activation of that name, for so many channels."""
    if name == "snake":
        return Snake(channels)
    return {"elu": nn.ELU, "silu": nn.SiLU}[name]()


def channels_last(x: Tensor) -> Tensor:
    """Signals (B, C, T) as causal modules take them. (B, C, 1, T)"""
    return x.unsqueeze(2).contiguous(memory_format=torch.channels_last)


def fold(network: nn.Module) -> None:
    """Computes the filters of causal convolutions once, of a network that stays as it is.

    At each call that would cost as much as a chunk of a few milliseconds itself.
    """
    for module in network.modules():
        if isinstance(module, Causal):
            module.fold()


def in_chunks(
    network: Callable[[Tensor, Past], Tensor], x: Tensor, size: int, first: int | None = None
) -> Tensor:
    """What a causal network makes of the whole, so much at a time: in bounded memory.

    Args:
        network: Takes a chunk and what was before it.
        x: The whole. (B, C, T, ...)
        size: Length of a chunk.
        first: Length of the first one; None where it is as long as the others.
    """
    past: Past = {}
    chunks = x.split(size, dim=2)
    if first is not None and first < x.shape[2]:
        chunks = (x[:, :, :first], *x[:, :, first:].split(size, dim=2))
    return torch.cat([network(chunk, past) for chunk in chunks], dim=2)
