"""Convolutions over clips that see the past alone: whole clips, or chunk after chunk of frames.

Features are (B, C, T, H, W) with channels last in memory. A stride in time keeps the first frame
apart: it stands for itself, and each output after it for so many inputs, so that T = 1 + k stride
becomes 1 + k. Language Model Beats Diffusion, section 3, https://arxiv.org/abs/2310.05737
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqkit.nn.causal import GAINS, NEAR_NOTHING, Activation, Causal, Past, activated

Size = tuple[int, int, int]
"""Frames, rows and columns."""


class CausalConv3d(Causal):
    """A convolution that is padded at the beginning of time, and around each frame.

    Before the first frame it sees that frame, as if it had stood still, so that still images and
    first frames are no odd cases; around each frame it sees zeros. Output t sees inputs up to t
    stride. Each filter is a direction and a length of its own: Weight Normalization, equation 2,
    https://arxiv.org/abs/1602.07868

    Args:
        channels: Of the input.
        outputs: Channels of the output.
        kernel_size: Inputs that a filter sees along each axis, at least the stride.
        stride: Inputs from one output to the next along each axis; H and W must be multiples of
            theirs, and T one more than a multiple, or a multiple in chunks after the first.
        gain: How much larger outputs are than inputs at the start.

    Attributes:
        context: Frames before a chunk that its outputs depend on.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        kernel_size: Size,
        *,
        stride: Size = (1, 1, 1),
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.stride = stride
        spare = [size - step for size, step in zip(kernel_size, stride, strict=True)]
        if min(spare) < 0:
            raise ValueError(f"kernel_size is {kernel_size}; give at least the stride, {stride}")
        self.context = spare[0]
        rows, columns = ((more // 2, more - more // 2) for more in spare[1:])
        self._around = (*columns, *rows)
        first = torch.randn(outputs, channels, *kernel_size)
        first *= gain / (channels * math.prod(kernel_size)) ** 0.5
        self.direction = nn.Parameter(first)
        self.length = nn.Parameter(norms(first))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.folded: Tensor | None = None

    @property
    def weight(self) -> Tensor:
        """The filters. (outputs, channels, *kernel_size)"""
        if self.folded is not None:
            return self.folded
        return self.direction * (self.length / norms(self.direction))

    def fold(self) -> None:
        self.folded = self.weight.detach()

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        x = F.pad(self._joined(x, past), self._around)
        return F.conv3d(x, self.weight, self.bias, stride=self.stride)

    def _joined(self, x: Tensor, past: Past | None) -> Tensor:
        """The chunk behind what was seen last, or its first frame. (B, C, more T, H, W)"""
        seen = None if past is None else past.get(self)
        if seen is None:  # the first frame is the last that its output sees
            seen = x[:, :, :1].expand(-1, -1, self.context + self.stride[0] - 1, -1, -1)
        x = torch.cat([seen, x], dim=2)
        if past is not None:
            past[self] = x[:, :, x.shape[2] - self.context :]
        return x


class CausalUpsample3d(Causal):
    """A convolution whose channels are so many outputs side by side: T to 1 + (T - 1) stride.

    Real-Time Single Image and Video Super-Resolution, section 3.2,
    https://arxiv.org/abs/1609.05158, in time, too: the first input gives one frame. At the start
    the outputs of an input are equal, or patterns of dots would take long to go:
    https://arxiv.org/abs/1707.02937

    Args:
        channels: Of the input.
        outputs: Channels of the output.
        stride: Outputs of one input along each axis.
        kernel_size: Inputs that an output sees along each axis.
        gain: How much larger outputs are than inputs at the start.
    """

    def __init__(
        self, channels: int, outputs: int, stride: Size, *, kernel_size: Size, gain: float = 1.0
    ) -> None:
        super().__init__()
        self.stride = stride
        num = math.prod(stride)
        self.conv = CausalConv3d(channels, num * outputs, kernel_size, gain=gain)
        for parameter in (self.conv.direction, self.conv.length):
            parameter.data = parameter.data[::num].repeat_interleave(num, 0)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        begins = past is None or self.conv not in past
        y = self.conv(x, past).unflatten(1, (-1, *self.stride))  # (B, O, t, h, w, T, H, W)
        y = y.permute(0, 1, 5, 2, 6, 3, 7, 4).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return channels_last(y[:, :, self.stride[0] - 1 :] if begins else y)


class CausalResidual3d(Causal):
    """Adds to its input what a 3 x 3 x 3 and a 1 x 1 x 1 convolution make of it.

    Args:
        channels: Of input and output.
        hidden: Channels between the two.
        activation: What is before each of them.
    """

    def __init__(self, channels: int, hidden: int, *, activation: Activation = "silu") -> None:
        super().__init__()
        gain = GAINS[activation]
        self.first, self.second = activated(activation, channels), activated(activation, hidden)
        self.wide = CausalConv3d(channels, hidden, (3, 3, 3), gain=gain)
        self.narrow = CausalConv3d(hidden, channels, (1, 1, 1), gain=NEAR_NOTHING)

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return x + self.narrow(self.second(self.wide(self.first(x), past)), past)


def norms(filters: Tensor) -> Tensor:
    """The length of each filter (O, C, t, h, w). (O, 1, 1, 1, 1)"""
    return filters.flatten(1).norm(dim=1).view(-1, 1, 1, 1, 1)


def channels_last(x: Tensor) -> Tensor:
    """Clips in the layout that convolutions are fastest in. (B, C, T, H, W)"""
    return x.contiguous(memory_format=torch.channels_last_3d)
